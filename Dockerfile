# A server of a model: docker build -t aocr . && docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/exported:/models:ro" aocr
FROM python:3.11-slim AS build
RUN python -m venv /opt/aocr
ENV PATH=/opt/aocr/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# The package without its modules tells what it needs, so that this layer lasts until setup.py changes. tensorflow-cpu
# takes the place of tensorflow: a container without a GPU needs no more. It holds the same modules under another name,
# of which pip knows nothing, so aocr itself is installed by --no-deps.
COPY setup.py pyproject.toml ./
COPY aocr/__init__.py aocr/
RUN pip install --no-deps . \
 && python -c 'from importlib.metadata import requires; print(*(need.partition(";")[0].strip().replace("tensorflow", "tensorflow-cpu") for need in requires("aocr") if "extra ==" not in need or "\"serve\"" in need), sep="\n")' > requirements.txt \
 && pip uninstall --yes aocr \
 && pip install -r requirements.txt
COPY aocr aocr
RUN pip install --no-deps . \
 && python -m compileall -q /opt/aocr/lib/python3.11/site-packages/aocr \
 && aocr serve --help > /dev/null

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin aocr
COPY --from=build /opt/aocr /opt/aocr
ENV PATH=/opt/aocr/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /models
# By number, which Kubernetes can tell from root.
USER 10001
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=4)"]
ENTRYPOINT ["aocr"]
CMD ["serve", "/models", "--host", "0.0.0.0", "--log-path", ""]
