# Both programs in one image; the command chooses. The build needs nothing but this repository.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY api-gateway api-gateway
COPY order-worker order-worker
COPY shared shared
RUN cargo build --release --locked --bins

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/orders --create-home orders
COPY --from=build /src/target/release/api-gateway /src/target/release/order-worker /usr/local/bin/
USER orders
WORKDIR /var/lib/orders
ENV DATABASE_URL=sqlite:///var/lib/orders/data/orders.db
CMD ["api-gateway"]
