"""XIDs: the real nvidia-ml-py on the simulated library, and the box file alone, heard by our listeners.

Each program runs in a process of its own. It changes the box from within `on_xid`: what is heard after a
change was heard because of it, and what did not come before it never came.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .machine import A100, run_python, write

START = """
import functools, io, json, logging, os, pathlib, threading
import pynvml
from ds01_spawner.adapters import box, nvml
from ds01_spawner.errors import InventoryUnavailable
path = pathlib.Path(os.environ["DS01_BOX"])
log = io.StringIO()
logging.basicConfig(stream=log, format="%(message)s")
stop = threading.Event()
heard = []
def add(*lines):
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("\\n".join([path.read_text(), *lines]))
    unfinished.rename(path)
def change(old, new):
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(path.read_text().replace(old, new))
    unfinished.rename(path)
def ask(function, *arguments):
    try:
        return function(*arguments)
    except pynvml.NVMLError as exc:
        return f"error {exc.value}"
"""
LISTENERS = {
    "nvml": "listen = nvml.listen_for_xids\n",
    "box": "listen = functools.partial(box.listen_for_xids, path)\n",
}
GPU_A = f"gpu 0 uuid=GPU-a {A100} mig=on"
GPU_B = f"gpu 1 uuid=GPU-b {A100} mig=off"

pytestmark = pytest.mark.parametrize("listener", sorted(LISTENERS))


def run(listener: str, code: str, library: Path, box: Path) -> object:
    return json.loads(run_python(START + LISTENERS[listener] + code, library, box))


def test_each_xid_of_the_box_is_heard_once_and_one_that_is_added_is_heard_too(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, GPU_B, "xid GPU-b 48", "xid GPU-a 13")
    code = """
def on_xid(uuid, xid):
    heard.append([uuid, xid])
    if heard[-1] == ["GPU-a", 13]:
        add("xid GPU-a 79")
    elif heard[-1] == ["GPU-a", 79]:
        stop.set()
listen(on_xid, stop=stop)
print(json.dumps(heard))
"""
    assert run(listener, code, library, box) == [["GPU-b", 48], ["GPU-a", 13], ["GPU-a", 79]]


def test_the_same_line_once_more_is_a_second_report_and_a_line_that_comes_back_is_none(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, "xid GPU-a 31")
    code = """
def on_xid(uuid, xid):
    heard.append(xid)
    if heard == [31]:
        add("xid GPU-a 31")
    elif heard == [31, 31]:
        change("xid GPU-a 31", "")
        add("xid GPU-a 1")
    elif heard == [31, 31, 1]:
        add("xid GPU-a 31", "xid GPU-a 2")
    else:
        stop.set()
listen(on_xid, stop=stop)
print(json.dumps(heard))
"""
    assert run(listener, code, library, box) == [31, 31, 1, 2]


def test_who_listens_anew_hears_all_xids_of_the_box_again(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, "xid GPU-a 79")
    code = """
for _ in range(2):
    stop.clear()
    listen(lambda uuid, xid: (heard.append(xid), stop.set()), stop=stop)
print(json.dumps(heard))
"""
    assert run(listener, code, library, box) == [79, 79]


def test_a_gpu_that_reports_its_own_loss_is_named_then_the_listening_ends(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, GPU_B, "xid GPU-a 1")
    code = """
def on_xid(uuid, xid):
    heard.append([uuid, xid])
    if xid == 1:
        change("mig=on", "mig=on lost=1")
        add("xid GPU-a 79")
try:
    listen(on_xid, stop=stop)
except InventoryUnavailable as exc:
    heard.append(exc.message)
print(json.dumps(heard))
"""
    *xids, message = run(listener, code, library, box)
    assert xids == [["GPU-a", 1], ["GPU-a", 79]]
    assert "error 15" in message


def test_beside_a_lost_gpu_the_others_are_heard(listener: str, library: Path, tmp_path: Path) -> None:
    box = write(tmp_path / "box", f"{GPU_A} lost=1", GPU_B, "xid GPU-a 79", "xid GPU-b 48")
    code = """
def on_xid(uuid, xid):
    heard.append([uuid, xid])
    stop.set()
listen(on_xid, stop=stop)
print(json.dumps([heard, log.getvalue()]))
"""
    heard, log = run(listener, code, library, box)
    assert heard == [["GPU-b", 48]]
    assert "XIDs of GPU 0 are not seen" in log


def test_where_every_gpu_is_lost_nobody_can_listen(listener: str, library: Path, tmp_path: Path) -> None:
    box = write(tmp_path / "box", f"{GPU_A} lost=1", "xid GPU-a 79")
    code = """
try:
    listen(lambda uuid, xid: heard.append(xid), stop=stop)
except InventoryUnavailable as exc:
    heard.append(exc.message)
print(json.dumps(heard))
"""
    (message,) = run(listener, code, library, box)
    assert "error 15" in message


def test_a_gpu_without_events_is_passed_over_with_a_line_in_the_log(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", f"{GPU_A} events=0", GPU_B, "xid GPU-a 79", "xid GPU-b 48")
    code = """
def on_xid(uuid, xid):
    heard.append([uuid, xid])
    stop.set()
listen(on_xid, stop=stop)
print(json.dumps([heard, log.getvalue()]))
"""
    heard, log = run(listener, code, library, box)
    assert heard == [["GPU-b", 48]]
    assert "XIDs of GPU 0 are not seen" in log
    assert "XIDs of GPU 1" not in log


def test_without_any_gpu_that_has_events_it_waits_to_be_stopped(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", f"{GPU_A} events=0", "xid GPU-a 79")
    code = """
class Stop(threading.Event):
    def wait(self, timeout=None):
        heard.append([timeout, ask(pynvml.nvmlDeviceGetCount)])
        return True
listen(lambda uuid, xid: heard.append(xid), stop=Stop())
print(json.dumps(heard))
"""
    assert run(listener, code, library, box) == [[None, "error 1"]]


def test_it_goes_on_listening_where_nothing_is_reported_for_a_while(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A)
    code = """
class AskedTwice(threading.Event):
    asked = 0
    def is_set(self):
        self.asked += 1
        if self.asked == 2:
            add("xid GPU-a 79")
        return super().is_set()
stop = AskedTwice()
listen(lambda uuid, xid: (heard.append([uuid, xid, stop.asked]), stop.set()), stop=stop)
print(json.dumps(heard))
"""
    ((uuid, xid, asked),) = run(listener, code, library, box)
    assert (uuid, xid) == ("GPU-a", 79)
    assert asked >= 2


def test_a_stop_from_another_thread_ends_the_listening(listener: str, library: Path, tmp_path: Path) -> None:
    box = write(tmp_path / "box", GPU_A, "xid GPU-a 13")
    code = """
listens = threading.Event()
thread = threading.Thread(target=listen, args=[lambda uuid, xid: listens.set()], kwargs={"stop": stop})
thread.start()
assert listens.wait(30)
stop.set()
thread.join(30)
print(json.dumps([thread.is_alive(), ask(pynvml.nvmlDeviceGetCount)]))
"""
    assert run(listener, code, library, box) == [False, "error 1"]


@pytest.mark.parametrize("fault", ['add("nonsense 1")', "path.unlink()"])
def test_a_failing_nvml_ends_the_listening_and_is_shut_down(
    listener: str, library: Path, tmp_path: Path, fault: str
) -> None:
    box = write(tmp_path / "box", GPU_A, "xid GPU-a 13")
    code = f"""
try:
    listen(lambda uuid, xid: {fault}, stop=stop)
except InventoryUnavailable as exc:
    heard.append(exc.message)
print(json.dumps([heard, ask(pynvml.nvmlDeviceGetCount)]))
"""
    (message,), count = run(listener, code, library, box)
    assert "GPUs" in message
    assert count == "error 1"


def test_what_the_caller_raises_comes_through_and_nvml_is_shut_down(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, "xid GPU-a 13")
    code = """
try:
    listen(lambda uuid, xid: {}[uuid], stop=stop)
except KeyError as exc:
    heard.append(str(exc))
print(json.dumps([heard, ask(pynvml.nvmlDeviceGetCount)]))
"""
    assert run(listener, code, library, box) == [["'GPU-a'"], "error 1"]


def test_the_inventory_is_read_while_another_thread_listens(
    listener: str, library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", GPU_A, GPU_B, "xid GPU-a 13")
    code = """
def on_xid(uuid, xid):
    heard.append([xid, len(nvml.read_inventory().gpus)])
    if xid == 13:
        add("xid GPU-b 31")
    else:
        stop.set()
listen(on_xid, stop=stop)
print(json.dumps(heard))
"""
    assert run(listener, code, library, box) == [[13, 2], [31, 2]]
