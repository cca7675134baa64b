# Google's own emulator of Pub/Sub, a Java program that comes with the Google Cloud CLI.

pubsub_needs() {
    command -v java >/dev/null || fail "install a Java runtime, for the emulator of Pub/Sub (apt install default-jre-headless)"
    pubsub_jar=${PUBSUB_EMULATOR_JAR:-}
    local sdk
    for sdk in "${CLOUDSDK_ROOT_DIR:-}" /usr/lib/google-cloud-sdk "$HOME/google-cloud-sdk" /opt/google-cloud-sdk; do
        [[ -n $pubsub_jar || -z $sdk ]] ||
            pubsub_jar=$(find "$sdk/platform/pubsub-emulator/lib" -name 'cloud-pubsub-emulator-*-all.jar' 2>/dev/null | sort -V | tail -n 1)
    done
    [[ -f $pubsub_jar ]] || fail "install the emulator of Pub/Sub: gcloud components install pubsub-emulator" \
        "(or apt install google-cloud-cli-pubsub-emulator), or set PUBSUB_EMULATOR_JAR to its jar"
}

pubsub_start() {
    local port
    port=$(free_port)
    begin pubsub java -Xmx256m -jar "$pubsub_jar" --host=127.0.0.1 --port="$port"
    await pubsub "http://127.0.0.1:$port/"
    export PUBSUB_EMULATOR_HOST=127.0.0.1:$port
}
