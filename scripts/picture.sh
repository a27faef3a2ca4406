#!/usr/bin/env bash
# The README's pictures, taken from the running product: the demo's page while faults are open, and the page of one episode. Needs Chromium and Python.
#
#   scripts/picture.sh            writes docs/pictures/page.png and docs/pictures/episode.png
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=${ANOMALYD_CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { echo "picture: there is no Chromium in PATH (nor ANOMALYD_CHROMIUM)" >&2; exit 1; }
program=${ANOMALYD_BIN:-target/debug/anomalyd}
[ -x "$program" ] || { echo "picture: $program is not there: run \`make build\`" >&2; exit 1; }

folder=$(mktemp -d)
"$program" demo >"$folder/out" 2>"$folder/err" &
demo=$!
trap 'kill $demo 2>>"$folder/err" || true; wait $demo 2>>"$folder/err" || true; rm -rf "$folder"' EXIT

mkdir -p docs/pictures
python3 - "$chromium" "$folder" "$demo" <<'PYTHON'
import base64, json, os, re, subprocess, sys, time, urllib.request

chromium, folder, demo = sys.argv[1:]
# The debugging pipe: 3 is read by the browser, 4 is written by it; messages end with a zero.
theirs, ours = os.pipe()
answers, written = os.pipe()
for end in (theirs, written):
    os.set_inheritable(end, True)
command = f'exec "$0" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$1" --remote-debugging-pipe about:blank 3<&{theirs} 4>&{written}'
browser = subprocess.Popen(["sh", "-c", command, chromium, f"{folder}/profile"], close_fds=False, stderr=open(f"{folder}/chromium", "w"))
for end in (theirs, written):
    os.close(end)
to, answers = os.fdopen(ours, "wb", 0), os.fdopen(answers, "rb")
session, number = None, 0

def call(method, **parameters):
    global number
    number += 1
    message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
    to.write(json.dumps(message).encode() + b"\0")
    while True:
        text = b""
        while (byte := answers.read(1)) != b"\0":
            if not byte:
                sys.exit("picture: the browser has ended")
            text += byte
        answer = json.loads(text)
        if answer.get("id") == number:
            return answer["result"]

def picture(address, file, height, first="header"):
    call("Emulation.setDeviceMetricsOverride", width=1000, height=height, deviceScaleFactor=1, mobile=False)
    call("Page.navigate", url=address)
    drawn = "new Promise(done => { const look = () => document.getElementById('main')?.dataset.drawn === 'yes' && setTimeout(() => done(true), 500); look(); new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true }); })"
    # A page that is still on its way takes what waits in it along.
    while not call("Runtime.evaluate", expression=f"location.href.startsWith('{address}') && {drawn}", awaitPromise=True, returnByValue=True).get("result", {}).get("value"):
        pass
    call("Runtime.evaluate", expression=f"document.querySelector('{first}').scrollIntoView()")
    with open(file, "wb") as out:
        out.write(base64.b64decode(call("Page.captureScreenshot", format="png")["data"]))

tab = call("Target.createTarget", url="about:blank")["targetId"]
session = call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
call("Page.enable")
# The browser is there before the faults are: they do not last.
for _ in range(3000):
    said = open(f"{folder}/out").read()
    if re.search("ALERT .*pump-5", said):
        break
    if not os.path.exists(f"/proc/{demo}"):
        sys.exit(f"picture: the demo has ended:\n{said}{open(f'{folder}/err').read()}")
    time.sleep(0.1)
else:
    sys.exit("picture: the demo never told of pump-5")
at = re.search(r"http://127[^/]*", said).group(0)
picture(f"{at}/", "docs/pictures/page.png", 680)
found = json.load(urllib.request.urlopen(f"{at}/api/v1/episodes"))
told = [episode for episode in found["open"] + found["closed"] if episode["kind"] == "score" and not episode["suppressed"]]
# From its headline on: what it is, since when, how sure, and what was measured over what was expected.
picture(f"{at}/episode/{told[0]['id']}", "docs/pictures/episode.png", 1000)
browser.kill()
browser.wait()
PYTHON
ls -l docs/pictures
