"""The page of `aocr serve` in a browser, against a server with the same interface."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stub_server import StubServer, status
from test_client import png

import aocr

PAGE = (Path(aocr.__file__).parent / "serving" / "static" / "index.html").read_text(encoding="utf-8")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed; install it to open the page in it")

ACTIONS = """
const file = (name) => new File([Uint8Array.from(atob(FILES[name]), (one) => one.charCodeAt(0))], name);
const transfer = (names) => {
  const made = new DataTransfer();
  names.forEach((name) => made.items.add(file(name)));
  return made;
};
const drop = (...names) => dispatchEvent(new DragEvent("drop", {dataTransfer: transfer(names), cancelable: true}));
const cards = () => [...document.querySelectorAll("#results > li")];
const $ = (selector, of = document) => of.querySelector(selector);
const shown = (selector, of) => {
  const found = $(selector, of);
  return found && found.checkVisibility() ? found.innerText : null;
};
const key = (name) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
const wait = (ms) => new Promise((go) => setTimeout(go, ms));
const settled = async () => {
  do await wait(50); while (!cards().length || cards().some((card) => card.dataset.state === "waiting"));
};
(async () => {
  let outcome;
  try {
    await wait(200);
    outcome = await (async () => { BODY })();
  } catch (error) {
    outcome = {error: `${error}\\n${error.stack}`};
  }
  fetch("outcome", {method: "POST", body: JSON.stringify(outcome)});
})();
"""


def browse(stub, tmp_path, body, files=()):
    """Opens the page, with a script that has ACTIONS and ends in `return OBJECT`. Returns that object."""
    encoded = {name: base64.b64encode(content).decode() for name, content in dict(files).items()}
    script = f"<script>const FILES = {json.dumps(encoded)};{ACTIONS.replace('BODY', body)}</script>"
    stub.page = (PAGE + script).encode()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--no-first-run", f"--user-data-dir={tmp_path}/profile", "--window-size=500,900",
               "--enable-logging=stderr", f"{stub.url}/"]
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as chromium:
        try:
            outcome = stub.outcome.get(timeout=60)
        finally:
            chromium.terminate()
    assert "error" not in outcome, outcome["error"]
    assert "Content Security Policy" not in (tmp_path / "log").read_text()
    return outcome


def test_the_page_is_one_file():
    assert not re.findall(r"https?://|@import|url\(|\bsrc=|<link(?! rel=\"icon\" href=\"data:,\")", PAGE)
    assert len(PAGE.encode()) < 40_000


def test_every_field_has_a_name():
    labelled = set(re.findall(r'<label for="(\w+)"', PAGE))
    for tag in re.findall(r"<input [^>]*>", PAGE):
        assert "aria-label=" in tag or re.search(r'id="(\w+)"', tag)[1] in labelled, tag


@in_a_browser
def test_readings(tmp_path):
    with StubServer() as stub:
        outcome = browse(stub, tmp_path, """
          drop("one.png", "it's.png", "13 wide.png", "none.txt", "empty.png", "large.png");
          await settled();
          const [one, , refused, none, empty, large] = cards();
          const tiles = [...one.querySelectorAll(".characters button")];
          const all = [...one.querySelectorAll(".box")];
          const boxes = all.map((box) => [box.style.left, box.style.width, box.className]);
          const before = shown(".alternatives", one);
          tiles[3].focus();
          const atEnd = shown(".alternatives", one), pressed = tiles.map((tile) => tile.getAttribute("aria-pressed"));
          key("Home"); key("ArrowRight"); key("ArrowRight"); key("ArrowLeft");
          const moved = tiles.indexOf(document.activeElement);
          const chosen = all.map((box) => box.classList.contains("chosen"));
          document.querySelectorAll("details").forEach((details) => { details.open = true; });
          await wait(50);
          return {model: shown("#model"), count: shown("#count"), text: shown(".text", one),
            facts: shown(".facts", one), tiles: tiles.map((tile) => [
              tile.innerText, tile.className, tile.getAttribute("aria-label"), tile.tabIndex]),
            boxes, before, atEnd, pressed, moved, chosen, commands: cards().map((card) => shown("code", card)),
            alt: $("img", one).alt, problems: [refused, none, empty, large].map((card) => shown(".problem", card)),
            wide: document.documentElement.scrollWidth, said: $("#said").textContent,
            names: cards().map((card) => shown(".name", card))};
        """, {"one.png": png(21), "it's.png": png(34), "13 wide.png": png(13), "none.txt": b"text", "empty.png": b"",
              "large.png": bytes(1 << 20)})
        assert (outcome["model"], outcome["count"]) == ("reads with the model aocr", "6 images")
        assert outcome["names"] == ["one.png", "it's.png", "13 wide.png", "none.txt", "empty.png", "large.png"]
        assert outcome["text"] == outcome["alt"] == "21x7"
        assert re.fullmatch(r"confidence 75.0%, \d+ ms", outcome["facts"])
        assert outcome["tiles"] == [["2\n100%", "high", "2, 100%", -1], ["1\n90.0%", "high", "1, 90.0%", 0],
                                    ["x\n80.0%", "mid", "x, 80.0%", -1], ["7\n70.0%", "mid", "7, 70.0%", -1]]
        assert outcome["boxes"] == [["0%", "25%", "box high"], ["25%", "25%", "box high"], ["50%", "25%", "box mid"],
                                    ["75%", "25%", "box mid chosen"]]
        assert outcome["before"] == outcome["atEnd"] == "7 70.0%? 15.0%"  # the least sure one, then the focused one
        assert outcome["pressed"] == ["false", "false", "false", "true"] and outcome["moved"] == 1
        assert outcome["chosen"] == [False, True, False, False]
        assert outcome["problems"] == [
            "The server refuses this image: 13 x 7; the limit is --max-pixels 90",
            "The server refuses this image: Unknown image file format.", "This file is empty.",
            "This file is too large: 1.0 MB; the limit of this server is 0.8 MB."]
        assert outcome["wide"] <= 500  # nothing hangs over the edge of a phone
        assert {path for _, path, _, _ in stub.requests} <= {
            "/", "/aocr.json", "/v1/models/aocr:predict"}
        assert len(stub.sizes()) == 4  # the last two are not sent

        if shutil.which("curl"):
            (tmp_path / "it's.png").write_bytes(png(55))
            done = subprocess.run(["sh", "-c", outcome["commands"][1]], cwd=tmp_path, capture_output=True, text=True)
            assert json.loads(done.stdout)["predictions"][0]["output"] == "55x7", done.stderr
            assert len(json.loads(done.stdout)["predictions"][0]["characters"]) == 9


@in_a_browser
def test_a_server_with_the_default_signature_and_a_key(tmp_path):
    with StubServer(signatures=("serving_default",), key="s3cret") as stub:
        stub.predict_troubles = [status(401)]
        outcome = browse(stub, tmp_path, """
          dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer(["one.png"])}));
          await wait(100);
          const waits = cards()[0].dataset.state, focus = document.activeElement.id, before = shown("#refused");
          const enter = async (text) => { $("#secret").value = text; $("#key button").click(); await wait(300); };
          await enter("wrong");
          const wrong = shown("#refused");
          await enter("s3cret");
          await settled();  // the server takes this key, then refuses the request
          const problem = shown(".problem", cards()[0]), again = shown("#refused");
          await enter("s3cret");
          await settled();
          const [card] = cards();
          $("details", card).open = true;
          await wait(50);
          const found = {waits, focus, before, wrong, problem, again, key: shown("#key"), text: shown(".text", card),
            facts: shown(".facts", card), characters: shown(".characters", card), boxes: $(".box", card),
            command: shown("code", card)};
          $("#clear").click();
          return {...found, left: cards().length, bar: shown("#bar"), focused: document.activeElement.id};
        """, {"one.png": png(21)})
    assert (outcome["waits"], outcome["focus"], outcome["before"]) == ("waiting", "secret", "")
    assert outcome["wrong"] == outcome["again"] == "The server does not accept this key."
    assert outcome["problem"] == "The server needs another API key. Enter it above."
    assert outcome["text"] == "21x7" and outcome["facts"].startswith("confidence 75.0%, ") and outcome["key"] is None
    assert outcome["characters"] is outcome["boxes"] is None
    assert '"signature_name": "serving_default"' in outcome["command"] and "Bearer $KEY" in outcome["command"]
    assert "s3cret" not in outcome["command"]
    assert (outcome["left"], outcome["bar"], outcome["focused"]) == (0, None, "choose")


@in_a_browser
def test_trouble_of_the_server(tmp_path):
    with StubServer() as stub:
        stub.predict_troubles = [status(code) for code in (413, 429, 500, 503, 504)]
        outcome = browse(stub, tmp_path, """
          const found = [];
          for (let k = 0; k < 5; k++) {
            k ? $(".again").click() : drop("one.png");
            await settled();
            found.push(shown(".problem", cards()[0]));
          }
          $(".again").click();
          await settled();
          return {found, text: shown(".text", cards()[0])};
        """, {"one.png": png(21)})
    assert outcome["text"] == "21x7"
    assert outcome["found"] == [
        "This image is too large for the server: played 413", "The server is busy. Try again in a moment.",
        "The server failed with status 500: played 500", "The server is busy. Try again in a moment.",
        "The server took too long. Try again, or use a smaller image."]
