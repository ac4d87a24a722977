"""Stage `fetch`: get the publisher's four files, each verified by SHA-256, into `data/raw`.

Each file comes from the first place that has it, in this order: `data/raw` itself, the folders in `params.yaml`, the folder
in the environment variable FASHION_MNIST_DIR, the mirrors in `params.yaml`. A file with a wrong digest is reported and not
used, whatever its source. With `dataset: drawn` (see `make demo`) the project draws the images instead.
"""

import io
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from stages.common.entry import entry_point
from stages.common.errors import InputError, printable
from stages.common.files import atomic_write, read_json
from stages.common.parameters import Fetch, read_parameters
from stages.data import drawn
from stages.data.publisher import LARGEST, PUBLISHED, RAW, refuse_unless_published

REPORTS = Path("reports")
SLOWEST = 5_000  # bytes a second, a modem's speed, at which the largest file takes an hour and a half


def fetch(parameters: Fetch, raw: Path, environment_folder: str | None) -> None:
    """Bring the four files into `raw`.

    Args:
        parameters: Folders, mirrors, timeout in seconds, attempts per mirror.
        raw: The folder to fill. Correct files that are there already stay as they are.
        environment_folder: The value of FASHION_MNIST_DIR, if it is set.

    Raises:
        InputError: No place has a correct copy of a file. The message lists every place and what is wrong there.
    """
    folders = [*parameters.folders, *([environment_folder] if environment_folder else [])]
    for name in PUBLISHED:
        refusals: list[str] = []
        if in_place(raw / name, name, refusals):
            print(f"{raw / name}: already there, verified")
        elif source := copy_from_folder(name, folders, raw / name, refusals) or downloaded(
            name, parameters, raw / name, refusals
        ):
            print(f"{raw / name}: from {source}, verified")
        else:
            places = "\n".join(f"  - {refusal}" for refusal in refusals)
            raise InputError(
                f"no correct copy of {name} was found. Tried:\n{places}\n"
                "Put the publisher's four files into a folder and type `FASHION_MNIST_DIR=FOLDER dvc repro`, or add the "
                "folder to fetch.folders in params.yaml. Without the data, `make demo` runs the whole pipeline on images "
                "that the project draws itself."
            )


def in_place(path: Path, name: str, refusals: list[str]) -> bool:
    """Whether the correct file is at `path`. If another file is there, the reason is added to `refusals`."""
    if not path.is_file():
        return False
    try:
        refuse_unless_published(path, name)
    except InputError as refusal:
        refusals.append(str(refusal))
        print(f"refused: {refusal}")
        return False
    return True


def copy_from_folder(name: str, folders: list[str], to: Path, refusals: list[str]) -> Path | None:
    """Copy the file from the first folder that has a correct copy. Returns the path that it was copied from, or None."""
    for folder in folders:
        source = Path(os.path.expanduser(folder)) / name
        try:
            if in_place(source, name, refusals):
                with atomic_write(to) as beside:
                    shutil.copyfile(source, beside)
                return source
            unpacked = source.with_suffix("")
            if not source.is_file():
                refusals.append(
                    f"{unpacked}: is unpacked, but the publisher's file must be compressed as it is published, {name}"
                    if unpacked.is_file()
                    else f"{source}: no such file"
                )
        except PermissionError as error:
            if str(to.parent) in str(error.filename):
                raise
            refusals.append(f"{source}: {error.strerror}")
    return None


def downloaded(name: str, parameters: Fetch, to: Path, refusals: list[str]) -> str | None:
    """Download the file from the first mirror that has a correct copy. Returns its address, or None.

    Between two attempts at a mirror it waits 0.5 s, then 1 s, 2 s ..., at most 30 s. It does not try again after an answer
    that will not change: 404, a bad certificate, too many bytes, or a complete file with a wrong digest.
    """
    for mirror in parameters.mirrors:
        address = mirror.rstrip("/") + "/" + name
        reason = ""
        for attempt in range(parameters.attempts):
            if attempt:
                time.sleep(min(0.5 * 2 ** (attempt - 1), 30))
                print(printable(f"{address}: {reason}; attempt {attempt + 1} of {parameters.attempts}"))
            try:
                with atomic_write(to) as beside:
                    download(address, beside, parameters.timeout_seconds)
                    refuse_unless_published(beside, name, address)
                return address
            except requests.HTTPError as error:
                reason = f"the server answered {error.response.status_code} {error.response.reason}"
                if error.response.status_code < 500 and error.response.status_code != 429:
                    break
            except requests.exceptions.SSLError as error:
                hint = hint_for_variables("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
                reason = f"its certificate is not accepted ({error}){hint}"
                break
            except (requests.TooManyRedirects, ValueError) as error:  # also bad addresses
                reason = f"no connection is possible ({error}){proxy_of(address)}"
                break
            except TooSlow as error:
                reason = f"{error}{proxy_of(address)}"
            except requests.ConnectionError:
                reason = f"no connection{proxy_of(address)}"
            except (requests.RequestException, urllib3.exceptions.HTTPError):
                reason = "the connection broke before the file was complete"
            except InputError as refusal:
                reason = str(refusal)
                break
            except OSError as error:
                if error.errno is not None:  # of the file, not of the connection
                    raise
                reason = (
                    f"no connection is possible ({error}){hint_for_variables('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE')}"
                )
                break
        refusal = printable(reason if reason.startswith(address) else f"{address}: {reason}")
        refusals.append(refusal)
        print(f"refused: {refusal}")
    return None


def hint_for_variables(*names: str) -> str:
    """The first of these environment variables that is set, and how to unset it: the end of a sentence, or ''."""
    found = [name for name in names if os.environ.get(name)]
    return f"; {found[0]} is {os.environ[found[0]]}: fix it, or type `unset {found[0]}`" if found else ""


def proxy_of(address: str) -> str:
    """The proxy for an address, and the environment variable that sets it: the end of a sentence, or ''."""
    proxy = requests.utils.select_proxy(address, requests.utils.get_environ_proxies(address))
    names = [name for name, value in os.environ.items() if proxy and proxy.endswith(value) and "proxy" in name.lower()]
    return f"; through the proxy {proxy}{hint_for_variables(*names)}" if proxy else ""


def download(address: str, to: Path, timeout: float) -> None:
    """Download `address` once into the file `to`, byte for byte, with a progress bar.

    Raises:
        requests.RequestException: No connection, or an HTTP status of 400 or above.
        urllib3.exceptions.HTTPError: The connection fails during the download.
        TooSlow: Fewer than `SLOWEST` bytes a second arrived in `timeout` seconds.
        InputError: More bytes arrive than the largest of the publisher's files has.
    """
    with (
        to.open("wb") as file,
        tqdm(unit="B", unit_scale=True, desc=Path(address).name) as bar,
        refuse_slow(bar, timeout),
        requests.Session() as session,
    ):
        session.hooks["response"] = without_content
        with session.get(address, stream=True, timeout=2 * timeout) as response:  # `refuse_slow` is first
            response.raise_for_status()
            bar.total = response.raw.length_remaining
            while block := response.raw.read1(1 << 16, decode_content=False):  # otherwise `requests` unpacks gzip
                if bar.n + len(block) > LARGEST:
                    raise InputError(
                        f"the server sent more than {LARGEST:,} bytes, as many as the largest of the publisher's files has"
                    )
                file.write(block)
                bar.update(len(block))


def without_content(response: requests.Response, **_: object) -> None:
    """Drop the content of a redirect, which `requests` would read into memory, however long it is."""
    if response.is_redirect:
        response.raw.close()
        response.raw = io.BytesIO()


class TooSlow(Exception):
    """A server sends too few bytes a second. It is no `OSError`, which `requests` would take for one of its own."""


@contextmanager
def refuse_slow(bar: tqdm, timeout: float) -> Iterator[None]:
    """Raise `TooSlow` if fewer than `SLOWEST` bytes a second arrive in any `timeout` seconds.

    A timeout of the connection would not do: it begins again with each byte, of headers and redirects, too. The signal of
    a timer interrupts whatever the connection waits for.
    """
    before = 0

    def check(*_: object) -> None:
        nonlocal before
        arrived, before = bar.n - before, bar.n
        if not arrived:
            raise TooSlow(f"the server was silent for {timeout:g} seconds")
        if arrived < SLOWEST * timeout:
            raise TooSlow(
                f"the server sent {arrived:,} bytes in {timeout:g} seconds, but must send {SLOWEST:,} a second"
            )

    handler = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, timeout, timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def refuse_to_mix(dataset: str) -> None:
    """Raise `InputError` if results on drawn images would replace results on Fashion-MNIST."""
    if dataset == "fashion-mnist":
        return
    if any(read_json(path)["dataset"] == "fashion-mnist" for path in REPORTS.glob("**/*.json")):
        raise InputError(
            f"params.yaml has `dataset: {dataset}`, but reports/ holds results on Fashion-MNIST, which would be replaced. "
            "Type `make demo`, which works in a copy, or set `dataset: fashion-mnist`."
        )


@entry_point
def main() -> None:
    dataset, parameters = read_parameters("dataset", "fetch")
    refuse_to_mix(dataset)
    if dataset == "drawn":
        drawn.write_files(RAW)
        print(f"{RAW}: images drawn by the project, not Fashion-MNIST")
    else:
        fetch(parameters, RAW, os.environ.get("FASHION_MNIST_DIR"))


if __name__ == "__main__":
    main()
