# The command line on a CPU, with the local page: docker build -t unheard .
#
#   docker run --rm -v "$PWD:/work" unheard embed my_audio -o vectors.parquet
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/work" unheard serve unheard-tiny my_audio --host 0.0.0.0
FROM python:3.12-slim
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6"
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[eval,view,onnx,serve]" && rm -r /source
RUN useradd --create-home unheard
USER unheard
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["unheard"]
CMD ["--help"]
