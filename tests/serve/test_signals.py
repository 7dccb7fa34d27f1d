import contextlib
import signal
from pathlib import Path
from unittest import mock

import pytest

from animesion_jax.errors import Stopped
from animesion_jax.main import main
from animesion_jax.serve.signals import stop_signals
from animesion_jax.serve.temporary import temporary_folder
from tests.serve.running import write_bundle


def _swallowed(sent: signal.Signals) -> None:
    """Receives a signal in code that swallows every exception."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(sent)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_and_the_folder_is_removed(tmp_path, monkeypatch, sent):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before, goes_on = signal.getsignal(sent), False
    with pytest.raises(Stopped, match="stopped by a signal"), stop_signals(), temporary_folder() as folder:
        (Path(folder) / "upload").write_text("")
        signal.raise_signal(sent)
        goes_on = True
    assert not goes_on and not list(tmp_path.iterdir()) and signal.getsignal(sent) == before


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_swallowed_signal_stops_at_the_check_and_at_the_end(sent):
    before = signal.getsignal(sent)
    with pytest.raises(Stopped, match="stopped by a signal"), stop_signals() as check:
        check()
        _swallowed(sent)
        with pytest.raises(Stopped, match="stopped by a signal"):
            check()
    with pytest.raises(Stopped, match="stopped by a signal"), stop_signals():
        _swallowed(sent)
    assert signal.getsignal(sent) == before


def test_hangup_of_the_terminal_does_not_stop_below_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as check:
            signal.raise_signal(signal.SIGHUP)
            check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_server_does_not_start_after_a_swallowed_signal(tmp_path, capsys):
    pytest.importorskip("gradio")
    bundle = write_bundle(tmp_path / "b.msgpack")
    # The real Config replaces the handlers of pytest's logs.
    with (
        mock.patch("animesion_jax.serve.api.create_app", lambda *_: _swallowed(signal.SIGTERM)),
        mock.patch("uvicorn.Config"),
        mock.patch("uvicorn.Server") as server,
    ):
        assert main(["animesion", "serve", f"--bundle={bundle}", "--port=0"]) == 0
    server.return_value.run.assert_not_called()
    assert capsys.readouterr().err.endswith("stopped by a signal\n")
