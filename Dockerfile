# syntax=docker/dockerfile:1
# The services on Google Cloud, an image each:
#
#   docker build --target fetch --build-arg REVISION="$(git rev-parse HEAD)" .
#
# A change of our code builds our code only: the dependencies are a layer of their own. An image holds the program, the
# C library and the CA certificates; no shell. The program runs as nobody in particular, writes no file, and so runs with
# a read-only root (`docker run --read-only`). What it was built from is in the program: `cargo audit bin` reads it.

ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS tools
RUN cargo install --locked cargo-auditable@0.7.7 cargo-chef@0.1.78
WORKDIR /strata

FROM tools AS recipe
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM tools AS build
COPY --from=recipe /strata/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --package fetch --package land --package transform
COPY . .
RUN cargo auditable build --release --locked --package fetch --package land --package transform --bins

# Debian 12 as above: the programs need its C library or a newer one.
FROM gcr.io/distroless/cc-debian12:nonroot AS service
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.vendor="Strata" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
# nonroot, by its number: who asks for a user that is not root need not look it up.
USER 65532:65532
EXPOSE 8080

FROM service AS fetch
LABEL org.opencontainers.image.title="strata-fetch" \
      org.opencontainers.image.description="Asks a source what is new and stores its answer untouched"
COPY --from=build /strata/target/release/fetch /fetch
ENTRYPOINT ["/fetch"]

FROM service AS land
LABEL org.opencontainers.image.title="strata-land" \
      org.opencontainers.image.description="Turns captures into typed Parquet partitions and sets aside what it cannot read"
COPY --from=build /strata/target/release/land /land
ENTRYPOINT ["/land"]

FROM service AS transform
LABEL org.opencontainers.image.title="strata-transform" \
      org.opencontainers.image.description="Reads a dbt project and runs the models that depend on what changed"
COPY --from=build /strata/target/release/transform /transform
ENTRYPOINT ["/transform"]
