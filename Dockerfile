# syntax=docker/dockerfile:1
FROM rust:1.94-slim-bookworm AS build
# perl and make: OpenSSL and librdkafka are built from source, for TLS and SASL towards Kafka.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The caches outlive a change of the sources; the binary is copied out, as a cache is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --features tls --bin driftline \
    && cp target/release/driftline /usr/local/bin/driftline

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin driftline \
    && install -d -o driftline -g driftline /var/lib/driftline/references
COPY --from=build /usr/local/bin/driftline /usr/local/bin/driftline
USER 10001:10001
WORKDIR /var/lib/driftline
# References are built here; a volume keeps them.
VOLUME /var/lib/driftline
ENV DRIFTLINE__HTTP__BIND=0.0.0.0:8080 \
    DRIFTLINE__REFERENCES=/var/lib/driftline/references
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /-/healthy HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '200 OK' <&3"]
ENTRYPOINT ["driftline"]
CMD ["run", "--config", "/etc/driftline/driftline.yaml"]
