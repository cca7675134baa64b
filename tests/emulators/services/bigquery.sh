# A community emulator of BigQuery, with what it lacks added by bigquery.py. It loads what the one of Cloud Storage holds.

bigquery_needs() {
    python_environment
}

bigquery_start() {
    local port
    port=$(free_port)
    begin bigquery "$venv/bin/python" "$here/services/bigquery.py" --port "$port" --objects "$state/storage/.cloudstorage"
    await bigquery "http://127.0.0.1:$port/bigquery/v2/projects/emulated/datasets"
    export BIGQUERY_EMULATOR_HOST=http://127.0.0.1:$port
}
