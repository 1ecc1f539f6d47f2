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
    cargo build --release --locked --features tls --bins \
    && cp target/release/driftline target/release/driftline-scorer /usr/local/bin/

# ONNX Runtime's library, out of the wheel that PyPI has; no Python comes along.
FROM python:3.13-slim-bookworm AS onnxruntime
RUN pip download --no-deps --dest /wheel onnxruntime==1.32.0 \
    && python -m zipfile -e /wheel/onnxruntime-*.whl /unpacked \
    && mkdir /library \
    && cp /unpacked/onnxruntime/capi/libonnxruntime.so.1.32.0 /library/

# The scorer: docker build --target scorer.
FROM debian:bookworm-slim AS scorer
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin driftline \
    && install -d -o driftline -g driftline /var/lib/driftline-scorer/registry
COPY --from=build /usr/local/bin/driftline-scorer /usr/local/bin/driftline-scorer
COPY --from=onnxruntime /library/ /usr/local/lib/
USER 10001:10001
WORKDIR /var/lib/driftline-scorer
# The registry is here; a volume keeps it.
VOLUME /var/lib/driftline-scorer
ENV ORT_DYLIB_PATH=/usr/local/lib/libonnxruntime.so.1.32.0
EXPOSE 8000 8001 9000
ENTRYPOINT ["driftline-scorer"]
CMD ["serve", "--config", "/etc/driftline-scorer/scorer.yaml"]

# The monitor: the last stage, and so the default.
FROM debian:bookworm-slim AS monitor
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
