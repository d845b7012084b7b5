# Not built where this was written. The server with PyTorch for CPUs; another build of it:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t lumos-hf .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN useradd --create-home --uid 10001 lumos && mkdir /data && chown lumos /data
COPY . /src
RUN pip install --no-cache-dir torch --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir "/src[serve]" \
    && rm -rf /src
USER lumos
WORKDIR /home/lumos
VOLUME /data
EXPOSE 8000
# Whoever reaches the port may use it, unless a file of keys is mounted and named: --api-key-file /run/secrets/lumos-keys
ENTRYPOINT ["lumos-hf", "serve", "--host", "0.0.0.0", "--data-dir", "/data"]
