"""What is told of streams such as services, jobs and devices send, three keys each, under plain defaults: faults found, false alarms, time in false episodes.

    target/quality-venv/bin/python scripts/services.py [--bin target/quick/anomalyd] [--only web zeros] [--seeds 4] [--set KEY=VALUE]

`web`: six figures of a web service, with a backup every night; `webs`: its requests alone; `missing`: `web` with a twentieth of its values missing; `release`: `web` with a
release that changes two of them for good, and no fault. `batch`: a job every ten minutes, with a big run a night. `iot`: a device that skips records, with a battery in whole percent. `counters`: counters with
two restarts, one of which hardly ever counts. `zeros`: counts that are nearly always 0. `pct`: percentages, most at or near 100. `logn`, `logn1`: log-normal times at random intervals, three columns and one. Each key has a fault every other day, for 30 to
60 minutes (of `batch` six records, of `iot` 18). The first model learns from three of eleven days, as the daemon's does (`--as-live`); `anomalyd backtest` replays the rest with daily trainings at the default budget, `"1/week"` (0.143 a key and day).
An episode that begins within an hour of a fault's end is no false one.
"""

import collections
import datetime
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import streams
from streams import autoregressive

DAY = 86_400
BEGIN = datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc).timestamp()  # A Monday.
KEYS, DAYS, WARM_UP, GRACE = 3, 11, 3, 3600


def stamp(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def of_day(times):
    return (times - BEGIN) % DAY / DAY


def load(times):
    """How busy it is: a daily course, and quieter weekends."""
    weekend = (times - BEGIN) // DAY % 7 >= 5
    return np.exp(0.7 * np.sin(2 * np.pi * (of_day(times) - 0.3))) * np.where(weekend, 0.6, 1)


def every_minute(rng, jitter):
    return BEGIN + np.arange(DAYS * 1440) * 60.0 + rng.uniform(0, jitter, DAYS * 1440)


def scaled(columns, names, factor, whole=False):
    """A fault: these columns become `factor` times as large."""
    def act(a, b):
        for name in names:
            values = columns[name][a:b] * factor
            columns[name][a:b] = values.astype(int) if whole else values
    return act


def becomes(columns, name, value):
    """A fault: the column becomes what `value` makes of its n records."""
    def act(a, b):
        columns[name][a:b] = value(b - a, columns[name][a])
    return act


def web(rng, key):
    times = every_minute(rng, 3)
    n = len(times)
    busy, size = load(times) * np.exp(0.08 * autoregressive(rng, n, 0.9)), [1, 0.4, 2.5][key % 3]
    hour = of_day(times) * 24
    p50 = np.exp(3.6 + 0.15 * np.log(busy) + 0.12 * rng.normal(size=n)) * np.where((hour >= 2) & (hour < 2.25), 1.5, 1)
    columns = {"requests": rng.poisson(800 * busy * size), "latency_p50": np.round(p50, 1)}
    columns["latency_p99"] = np.round(p50 * np.exp(1.1 + 0.25 * np.abs(rng.normal(size=n))), 1)
    columns["errors_5xx"] = rng.poisson(0.3 * busy * size)
    columns["errors_4xx"] = rng.poisson(12 * busy * size)
    columns["cpu_pct"] = np.round(np.clip(8 + 22 * busy + 2 * rng.normal(size=n), 0, 100), 1)

    def errors(a, b):
        columns["errors_5xx"][a:b] += rng.poisson(0.02 * columns["requests"][a:b])

    return times, columns, {
        "latency x 2": scaled(columns, ["latency_p50", "latency_p99"], 2),
        "p99 x 3": scaled(columns, ["latency_p99"], 3),
        "5xx 2 %": errors,
        "traffic / 5": scaled(columns, ["requests", "errors_4xx"], 0.2, whole=True),
    }, 45


def webs(rng, key):
    times, columns, _, length = web(rng, key)
    columns = {"requests": columns["requests"]}
    return times, columns, {
        "traffic / 5": scaled(columns, ["requests"], 0.2, whole=True),
        "traffic x 2.5": scaled(columns, ["requests"], 2.5, whole=True),
        "none": scaled(columns, ["requests"], 0, whole=True),
    }, length


def missing(rng, key):
    times, columns, faults, length = web(rng, key)

    def finish():
        holes = {name: rng.random(len(times)) < 0.05 for name in columns}
        return {name: [None if hole else value for hole, value in zip(holes[name], values)] for name, values in columns.items()}

    return times, finish, faults, length


def release(rng, key):
    times, columns, _, length = web(rng, key)
    n = len(times)
    columns["memory_mb"] = np.round(900 + 20 * autoregressive(rng, n, 0.95) + 3 * rng.normal(size=n))
    after = int(n * 0.62)
    columns["memory_mb"][after:] *= 1.3
    for name in ["latency_p50", "latency_p99"]:
        columns[name][after:] *= 0.8
    return times, columns, {}, length


def batch(rng, key):
    n = DAYS * 144
    times = BEGIN + np.arange(n) * 600.0 + rng.uniform(0, 20, n)
    rows = np.exp(9 + 0.3 * rng.normal(size=n)) * np.where(np.arange(n) % 144 == 12, 12, 1) * load(times) ** 0.5
    duration = rows / 900 * np.exp(0.15 * rng.normal(size=n)) + 4
    columns = {"rows": rows.astype(int), "duration_s": np.round(duration, 1)}
    columns["memory_mb"] = np.round(300 + rows / 200 + 10 * rng.normal(size=n))
    columns["exit_code"] = np.zeros(n, int)
    columns["retries"] = (rng.random(n) < 0.02).astype(int)

    def nothing(a, b):
        columns["rows"][a:b], columns["duration_s"][a:b] = 0, 4.1

    return times, columns, {
        "duration x 4": scaled(columns, ["duration_s"], 4),
        "no rows": nothing,
        "exit 1": becomes(columns, "exit_code", lambda n, _: 1),
    }, 6


def iot(rng, key):
    n = DAYS * 288
    times, there = BEGIN + np.arange(n) * 300.0 + rng.uniform(0, 40, n), np.ones(n, bool)
    for _ in range(DAYS * 2):
        gap = rng.integers(0, n)
        there[gap : gap + int(rng.exponential(10))] = False
    times = times[there & (rng.random(n) > 0.03)]
    n = len(times)
    temperature = 14 + 6 * np.sin(2 * np.pi * (of_day(times) - 0.35)) + 2.5 * autoregressive(rng, n, 0.995) + 0.15 * rng.normal(size=n)
    battery = 100 - ((times - BEGIN) / DAY * 1.6 + rng.uniform(0, 20)) % 85
    columns = {"temperature": np.round(temperature, 1)}
    columns["humidity"] = np.round(np.clip(70 - 2.2 * (temperature - 14) + 4 * autoregressive(rng, n, 0.98), 15, 100))
    columns["battery"] = np.round(battery + 0.3 * rng.normal(size=n))
    columns["rssi"] = np.round(-75 + 4 * autoregressive(rng, n, 0.9) + rng.normal(size=n))

    def warmer(a, b):
        columns["temperature"][a:b] += 8

    return times, columns, {
        "8 degrees more": warmer,
        "stands still": becomes(columns, "temperature", lambda n, first: first),
        "humidity 100": becomes(columns, "humidity", lambda n, _: 100),
        "-127 degrees": becomes(columns, "temperature", lambda n, _: -127),
    }, 18


def counters(rng, key):
    times = every_minute(rng, 2)
    n = len(times)
    busy = load(times) * np.exp(0.1 * autoregressive(rng, n, 0.8))
    steps = {"bytes_in_total": rng.poisson(2e6 * busy).astype(float)}
    steps["bytes_out_total"] = steps["bytes_in_total"] * 0.3 * np.exp(0.05 * rng.normal(size=n))
    steps["errors_total"] = (rng.random(n) < 0.003).astype(float)
    steps["uptime_s"] = 60 * np.ones(n)

    def total(step):
        sums = np.cumsum(step)
        for share in (0.47, 0.78):
            restart = int(n * share)
            sums[restart:] -= sums[restart - 1]
        return np.floor(sums)

    def finish():
        return {**{name: total(step) for name, step in steps.items()}, "conns": rng.poisson(200 * busy)}

    return times, finish, {
        "bytes x 3": scaled(steps, ["bytes_in_total", "bytes_out_total"], 3),
        "5 errors a minute": becomes(steps, "errors_total", lambda n, _: rng.poisson(5, n)),
        "no bytes": scaled(steps, ["bytes_in_total", "bytes_out_total"], 0),
    }, 45


def zeros(rng, key):
    times = every_minute(rng, 2)
    n = len(times)
    busy = load(times)
    columns = {"errors": (rng.random(n) < 0.004) * rng.integers(1, 3, n), "retries": rng.poisson(0.01, n)}
    columns["queue"] = (rng.random(n) < 0.02) * rng.integers(1, 6, n)
    columns["rps"] = np.round(50 * busy * np.exp(0.1 * rng.normal(size=n)), 1)
    return times, columns, {
        "5 errors a minute": becomes(columns, "errors", lambda n, _: rng.poisson(5, n)),
        "the queue grows": becomes(columns, "queue", lambda n, _: np.arange(n) * 2),
        "a retry a minute": becomes(columns, "retries", lambda n, _: rng.poisson(1, n)),
    }, 30


def pct(rng, key):
    times = every_minute(rng, 2)
    n = len(times)
    busy, days = load(times), (times - BEGIN) / DAY
    columns = {"availability": np.round(100 - (rng.random(n) < 0.01) * rng.exponential(0.3, n), 2)}
    columns["cache_hit"] = np.round(100 - np.exp(0.2 + 0.5 * autoregressive(rng, n, 0.9)), 1)
    columns["disk_used"] = np.round(60 + days * 8 % 8 + days * 0.5, 1)
    columns["cpu"] = np.round(np.clip(20 * busy + 5 * np.abs(rng.normal(size=n)), 0, 100), 1)
    return times, columns, {
        "availability 97": becomes(columns, "availability", lambda n, _: np.round(97 + 0.5 * rng.normal(size=n), 2)),
        "cache 70": becomes(columns, "cache_hit", lambda n, _: np.round(70 + 3 * rng.normal(size=n), 1)),
        "disk 97": becomes(columns, "disk_used", lambda n, _: 97.3),
        "cpu 100": becomes(columns, "cpu", lambda n, _: 100),
    }, 30


def logn(rng, key):
    n = DAYS * 1440
    times = BEGIN + np.cumsum(rng.exponential(60, n))
    columns = {"latency_ms": np.round(np.exp(4 + rng.normal(size=n)), 1), "size": np.exp(7 + 1.2 * rng.normal(size=n)).astype(int)}
    columns["db_ms"] = np.round(np.exp(2 + 0.8 * rng.normal(size=n)), 1)
    return times, columns, {"latency x 4": scaled(columns, ["latency_ms"], 4), "db x 10": scaled(columns, ["db_ms"], 10)}, 60


def logn1(rng, key):
    times, columns, _, length = logn(rng, key)
    columns = {"latency_ms": columns["latency_ms"]}
    return times, columns, {"latency x 4": scaled(columns, ["latency_ms"], 4)}, length


KINDS = {kind.__name__: kind for kind in [web, webs, missing, release, batch, iot, counters, zeros, pct, logn, logn1]}


def stream(kind, seed):
    """Lines of JSON in order of time, how many are before the first judged one, and the faults as (key, name, first second, last)."""
    records, faults = [], []
    for key in range(KEYS):
        rng = np.random.default_rng([seed, key, sum(map(ord, kind))])
        times, columns, causes, length = KINDS[kind](rng, key)
        days = [day for day in range(WARM_UP + 1, DAYS) if (day + key) % 2 == 0] if causes else []
        for number, day in enumerate(days):
            a = int(np.searchsorted(times, BEGIN + day * DAY + rng.uniform(3, 20) * 3600))
            b = min(len(times), a + length)
            name = list(causes)[(number + key + seed) % len(causes)]
            causes[name](a, b)
            faults.append((f"k{key}", name, times[a], times[b - 1]))
        if callable(columns):
            columns = columns()
        for i, time in enumerate(times):
            row = {name: values[i] for name, values in columns.items() if values[i] is not None}
            row = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
            records.append((time, json.dumps({"ts": stamp(time), "host": f"k{key}", **row})))
    records.sort()
    return [line for _, line in records], sum(time < BEGIN + WARM_UP * DAY for time, _ in records), faults


def replay(binary, kind, seed, settings):
    """Names of faults told and all, false episodes, and days in them."""
    lines, warm_up, faults = stream(kind, seed)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/in.jsonl", "w") as file:
            file.writelines(line + "\n" for line in lines)
        options = ["--input", f"{folder}/in.jsonl", "--key", "host", "--timestamp", "ts", "--warmup", str(warm_up), "--as-live"]
        streams.anomalyd_backtest(binary, [*options, "--alerts", f"{folder}/alerts", "--output", "/dev/null"], settings)
        with open(f"{folder}/alerts") as file:
            alerts = [json.loads(line) for line in file]
    episodes = {}
    for alert in alerts:
        episode = episodes.setdefault(alert["id"], {**alert, "until": BEGIN + DAYS * DAY})
        if alert.get("end_time"):
            episode["until"] = seconds(alert["end_time"])
    told, false, inside = set(), 0, 0.0
    for episode in episodes.values():
        opened, began = seconds(episode["data_time"]), seconds(episode["approx_anomaly_start_time"])
        own = [i for i, (key, *_) in enumerate(faults) if key == episode.get("key")]
        hits = {i for i in own if faults[i][2] - 60 <= opened <= faults[i][3] + 1}
        after = any(faults[i][2] - 60 <= began <= faults[i][3] + GRACE for i in own)
        told |= hits
        if not hits and not after and opened >= BEGIN + WARM_UP * DAY:
            inside += max(0.0, episode["until"] - began) / DAY
            false += not episode.get("within")
    return [faults[i][1] for i in told], [name for _, name, *_ in faults], false, inside


def main():
    given = streams.arguments(__doc__, KINDS, 4)
    for kind in given.only:
        with ProcessPoolExecutor(given.jobs) as pool:
            jobs = [pool.submit(replay, given.bin, kind, seed, given.set) for seed in range(1, given.seeds + 1)]
            told, every, false, inside = zip(*[job.result() for job in jobs])
        told, every = (collections.Counter(name for names in all_seeds for name in names) for all_seeds in (told, every))
        days = given.seeds * KEYS * (DAYS - WARM_UP)
        by_name = ", ".join(f"{name} {told[name]} of {every[name]}" for name in every)
        print(f"{kind:9} told {told.total():3} of {every.total():3}, false {sum(false) / days:.3f} a key and day, {100 * sum(inside) / days:4.1f} % of the time in false episodes; {by_name}", flush=True)


if __name__ == "__main__":
    main()
