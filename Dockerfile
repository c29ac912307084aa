# Both programs in one image; the command chooses. The build needs nothing but this repository.

# What is needed of others is built before, from manifests alone: a layer that is kept as long as
# they are the same.
FROM rust:1.95-bookworm AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# The settings of the build, which the dependencies are built with, too.
COPY .cargo .cargo
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --bins --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --bins && mkdir /empty

# Tells the story; only for docker-compose.yml.
FROM debian:bookworm-slim AS teller
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl jq openssl \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/compose/*.sh scripts/story.sh /opt/orders/
USER nobody
WORKDIR /opt/orders

FROM debian:bookworm-slim AS orders
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/api-gateway /src/target/release/order-worker /usr/local/bin/
# Where SQLite's file is, in data/, unless DATABASE_URL says otherwise: to be a volume.
COPY --from=build --chown=65532:65532 /empty /var/lib/orders
USER 65532:65532
WORKDIR /var/lib/orders
CMD ["api-gateway"]
