# A community emulator of Cloud Storage, with what it lacks added by storage.py.

storage_needs() {
    python_environment
}

storage_start() {
    local http grpc
    http=$(free_port)
    grpc=$(free_port)
    begin storage "$venv/bin/python" "$here/services/storage.py" --port "$http" --grpc-port "$grpc" --folder "$state/storage"
    await storage "http://127.0.0.1:$http/storage/v1/b?project=emulated"
    export STORAGE_EMULATOR_HOST=http://127.0.0.1:$http
    export STORAGE_EMULATOR_GRPC_HOST=127.0.0.1:$grpc
}
