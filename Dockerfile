# One image with both programs; the container's command selects one. The build needs only this repository.

# cargo-chef builds the dependencies from the manifests alone, in a layer that is cached until they change.
FROM rust:1.95-bookworm AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# Cargo's build settings also apply to the dependencies.
COPY .cargo .cargo
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --bins --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --bins && mkdir /empty

# The demo scripts; only for docker-compose.yml.
FROM debian:bookworm-slim AS demo
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl jq openssl \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/compose/*.sh scripts/story.sh /opt/orders/
USER nobody
WORKDIR /opt/orders

FROM debian:bookworm-slim AS orders
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/api-gateway /src/target/release/order-worker /usr/local/bin/
# Default folder of the SQLite database (data/ in it, unless DATABASE_URL is set). Mount a volume here.
COPY --from=build --chown=65532:65532 /empty /var/lib/orders
USER 65532:65532
WORKDIR /var/lib/orders
CMD ["api-gateway"]
