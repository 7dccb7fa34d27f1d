"""Prints the latency of `serve` under concurrent clients: p50, p95 and the slowest of all requests.

python benchmarks/serve.py --bundle=demo.msgpack --clients=8 --requests=200 runs/demo/faces

Each client sends its next image when it has the last answer, over a new connection. The exit status is 1 if an answer
is missing or differs from `predict`.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from animesion_jax.images import find_images
from animesion_jax.inference.recognizer import load


def request(address: str, image: Path) -> tuple[str, float]:
    """Sends an image; returns the likeliest character and the seconds until the answer."""
    boundary = uuid.uuid4().hex
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{image.name}"\r\n\r\n'
    body = part.encode() + image.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    start = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/api/predict", body, headers)) as response:
        answer = response.read().decode()
    seconds = time.monotonic() - start
    found = re.search(r'"class":\s*"((?:[^"\\]|\\.)*)"', answer)
    return found.group(1) if found else answer, seconds


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="images or folders of them, sent in turn")
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--clients", type=int, default=8, help="default: 8")
    parser.add_argument("--requests", type=int, default=200, help="of all clients together; default: 200")
    flags = parser.parse_args()
    images = find_images(flags.images)
    sent = [images[number % len(images)] for number in range(flags.requests)]
    expected = [ranked[0]["class"] for ranked in load(flags.bundle).predict(images, top_k=1)]
    command = [sys.executable, "-m", "animesion_jax.main", "serve", f"--bundle={flags.bundle}", "--port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as server:
        try:
            found = next(filter(None, (re.search(r"http://\S+", line) for line in server.stderr)))
            with ThreadPoolExecutor(flags.clients) as clients:
                start = time.monotonic()
                answers = list(clients.map(lambda image: request(found.group(), image), sent))
                wall = time.monotonic() - start
        finally:
            server.terminate()
    right = sum(name == expected[number % len(images)] for number, (name, _) in enumerate(answers))
    times = statistics.quantiles([1000 * seconds for _, seconds in answers], n=20)
    slowest = 1000 * max(seconds for _, seconds in answers)
    print("| clients | requests | as predict says | requests/s | p50 ms | p95 ms | slowest ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    figures = (len(answers) / wall, times[9], times[18], slowest)
    print(f"| {flags.clients} | {flags.requests} | {right} | {' | '.join(f'{each:.0f}' for each in figures)} |")
    return 0 if right == flags.requests else 1


if __name__ == "__main__":
    sys.exit(main())
