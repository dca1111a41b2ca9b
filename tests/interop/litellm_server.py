"""The LiteLLM proxy on any free port of this machine: ``python litellm_server.py CONFIG``."""

import os
import sys

import uvicorn

if __name__ == "__main__":
    os.environ["CONFIG_FILE_PATH"] = sys.argv[1]  # read when the application begins
    uvicorn.run("litellm.proxy.proxy_server:app", host="127.0.0.1", port=0)
