"""What is told of simulated streams of kinds that people have, under plain defaults: faults found, and false alarms.

    target/quality-venv/bin/python scripts/streams.py [--bin target/quick/anomalyd] [--only web counters] [--seeds 6] [--set KEY=VALUE]

Ten kinds have several features, six a single one. Each stream is fourteen days of one key, a record a minute. The first model learns from three days; from the fifth on there is one fault of two hours at a time.
`anomalyd backtest` replays it with daily trainings at "1/day". Printed for each kind: episodes a day that touch no fault (30 records of grace) after the first model, the
longest of them, and the share of ordinary records with p <= 0.01; for each fault how often it was found, after how many records, with how many openings, and the share of its
records within episodes.
"""

import argparse
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

DAY, DAYS, WARMUP, BEGIN, LENGTH, GRACE = 1440, 14, 3, 5, 120, 30


def autoregressive(rng, n, rho, spread=1.0):
    steps = rng.normal(size=n) * spread * np.sqrt(1 - rho**2)
    x = np.empty(n)
    x[0] = rng.normal() * spread
    for i in range(1, n):
        x[i] = rho * x[i - 1] + steps[i]
    return x


def daily(n, phase=0):
    return np.sin(2 * np.pi * (np.arange(n) + phase) / DAY)


def switched(rng, n):
    """1 while it is on, for one to four hours at a time, else 0."""
    on, i = np.zeros(n), 0
    while i < n:
        length = int(rng.integers(60, 240))
        on[i : i + length] = 1
        i += length + int(rng.integers(20, 120))
    return on


def add(column, by):
    return lambda d, a, b, rng: d.__setitem__(column, d[column].where(~d.index.isin(range(a, b)), d[column] + by))


def scale(columns, by):
    def fault(d, a, b, rng):
        d.loc[a : b - 1, columns] *= by

    return fault


def hold(column):
    def fault(d, a, b, rng):
        d.loc[a : b - 1, column] = d[column][a]

    return fault


def web(rng, n):
    """A service: requests and latencies with a daily course, rare errors, a processor's use."""
    load = np.exp(0.6 * daily(n) + 0.1 * autoregressive(rng, n, 0.9))
    latency = np.exp(3.5 + 0.25 * np.log(load) + 0.15 * rng.normal(size=n))
    d = pd.DataFrame(
        dict(
            requests=rng.poisson(600 * load).astype(float),
            latency_ms=latency,
            p99_ms=latency * np.exp(1.2 + 0.3 * np.abs(rng.normal(size=n))),
            errors=rng.poisson(0.4 * load).astype(float),
            cpu=np.clip(18 * load + 3 * autoregressive(rng, n, 0.8) + 2 * rng.normal(size=n), 0, 100),
        )
    )

    def errors(d, a, b, rng):
        d.loc[a : b - 1, "errors"] += rng.poisson(6, b - a)

    return d, {"latencies x 1.8": scale(["latency_ms", "p99_ms"], 1.8), "errors + 6": errors, "requests x 0.4": scale("requests", 0.4), "cpu + 25": add("cpu", 25)}


def counters(rng, n):
    """Three counters, and a temperature that goes with what they count."""
    rate = np.exp(0.4 * daily(n) + 0.05 * autoregressive(rng, n, 0.9))
    d = pd.DataFrame(
        dict(
            bytes_total=np.cumsum(rng.poisson(1e6 * rate)).astype(float),
            energy_kwh=np.cumsum(3.2 + 0.1 * rng.normal(size=n) * rate),
            packets_total=np.cumsum(rng.poisson(1000 * rate)).astype(float),
            temperature=45 + 5 * rate + 0.3 * autoregressive(rng, n, 0.95),
        )
    )

    def twice(d, a, b, rng):
        steps = np.diff(d.packets_total.values)
        steps[a:b] *= 2
        d["packets_total"] = np.r_[d.packets_total[0], d.packets_total[0] + np.cumsum(steps)]

    return d, {"bytes stand still": hold("bytes_total"), "packets x 2": twice, "temperature + 4": add("temperature", 4)}


def machine(rng, n):
    """A machine that is switched on and off, and warms and cools."""
    on = switched(rng, n)
    warmth = np.empty(n)
    warmth[0] = 20
    for i in range(1, n):
        warmth[i] = warmth[i - 1] + ((65 if on[i] else 20) - warmth[i - 1]) / 25
    d = pd.DataFrame(
        dict(
            on=on,
            temperature=warmth + 0.4 * rng.normal(size=n),
            current=on * (12 + 0.5 * autoregressive(rng, n, 0.8)) + 0.05 * rng.normal(size=n),
            vibration=on * (2 + 0.2 * np.abs(rng.normal(size=n))) + 0.05 * np.abs(rng.normal(size=n)),
            ambient=20 + 4 * daily(n) + 0.3 * autoregressive(rng, n, 0.99),
        )
    )

    def unpowered(d, a, b, rng):
        d.loc[a : b - 1, "current"] = np.where(d.loc[a : b - 1, "on"] > 0, 0.0, d.loc[a : b - 1, "current"])

    return d, {"temperature + 6": add("temperature", 6), "vibration x 1.5": scale("vibration", 1.5), "no current": unpowered, "temperature stuck": hold("temperature")}


def quantised(rng, n):
    """A room: coarse steps, and an outside temperature that is sent every quarter of an hour."""
    step = lambda x, size: np.round(x / size) * size
    base = daily(n)
    outside = 20 + 2 * base + 0.2 * autoregressive(rng, n, 0.99)
    d = pd.DataFrame(
        dict(
            room_c=step(21 + 3 * base + 0.2 * autoregressive(rng, n, 0.98), 0.5),
            humidity=step(45 - 8 * base + autoregressive(rng, n, 0.97), 1),
            outside_c=step(np.repeat(outside[::15], 15)[:n], 0.1),
            co2=step(500 + 200 * np.clip(base, 0, 1) + 30 * autoregressive(rng, n, 0.95), 10),
        )
    )
    return d, {"co2 + 300": add("co2", 300), "room - 3": add("room_c", -3), "humidity + 10": add("humidity", 10)}


def events(rng, n):
    """Orders of three kinds, independent of each other."""
    kind = rng.choice(3, p=[0.7, 0.25, 0.05], size=n)
    of = lambda *values: np.array(values)[kind]
    d = pd.DataFrame(
        dict(
            amount=np.exp(of(3, 4.5, 6.5) + 0.5 * rng.normal(size=n)),
            items=1.0 + rng.poisson(of(2, 5, 1)),
            duration=np.exp(of(4, 5, 3.0) + 0.4 * rng.normal(size=n)),
            distance=np.exp(1 + 0.8 * rng.normal(size=n)),
        )
    )

    def combination(d, a, b, rng):
        rows = d.loc[a : b - 1].index[::4]
        d.loc[rows, "amount"] = np.exp(6.5 + 0.3 * rng.normal(size=len(rows)))
        d.loc[rows, "items"] = 12.0
        d.loc[rows, "distance"] = np.exp(4.0 + 0.2 * rng.normal(size=len(rows)))

    return d, {"every fourth odd": combination, "distance x 4": scale("distance", 4)}


def heavy(rng, n):
    """Four related features with heavy tails (Student's t, three degrees of freedom)."""
    mixed = np.array([[1, 0.5, 0.3, 0], [0, 1, 0.4, 0.2], [0.2, 0, 1, 0.5], [0.1, 0.3, 0, 1]])
    x = mixed @ np.array([rng.standard_t(3, size=n) for _ in range(4)])
    d = pd.DataFrame({f"x{i}": x[i] for i in range(4)})

    def spike(d, a, b, rng):
        d.loc[a : a + 2, "x0"] += 40

    return d, {"x1 + 4": add("x1", 4), "x2 x 3": scale("x2", 3), "a spike of 40": spike}


def night(rng, n):
    """A daily course that rests at night: what is ordinary by day is a fault by night."""
    shape = np.maximum(daily(n, -DAY // 4), 0)
    d = pd.DataFrame(
        dict(
            power=50 + 30 * shape + autoregressive(rng, n, 0.9),
            flow=10 + 5 * shape + 0.3 * autoregressive(rng, n, 0.9),
            pressure=5 + 0.1 * autoregressive(rng, n, 0.9),
        )
    )

    def level(power, flow):
        def fault(d, a, b, rng):
            d.loc[a : b - 1, "power"] = power + rng.normal(size=b - a)
            d.loc[a : b - 1, "flow"] = flow + 0.3 * rng.normal(size=b - a)

        return fault

    return d, {"as by day": level(75, 14), "as by night": level(50, 10), "pressure - 0.35": add("pressure", -0.35)}


def gaps(rng, n):
    """Eight related features of which some are often missing, one mostly, and two never."""
    base = autoregressive(rng, n, 0.95)
    d = pd.DataFrame({f"s{i}": (i + 1) * (base * (0.6 + 0.1 * i) + 0.5 * autoregressive(rng, n, 0.7)) + 10 * i for i in range(8)})
    for i, share in enumerate([0, 0.02, 0.1, 0.3, 0.5, 0.02, 0, 0.9]):
        d.loc[rng.random(n) < share, f"s{i}"] = np.nan
    return d, {"s2 + 6": add("s2", 6), "s4 + 12": add("s4", 12)}


def wide(rng, n):
    """Sixty features of six causes, three that never change, two rare commands."""
    causes = np.stack([autoregressive(rng, n, 0.9 + 0.01 * i) for i in range(6)], 1)
    x = causes @ rng.normal(size=(6, 60)) + 0.5 * rng.normal(size=(n, 60)) * np.linspace(0.5, 2, 60)
    d = pd.DataFrame(x, columns=[f"c{i}" for i in range(60)])
    for i in (5, 17, 33):
        d[f"c{i}"] = 7.0
    for i in (8, 40):
        d[f"c{i}"] = (rng.random(n) < 0.02).astype(float)

    def swap(d, a, b, rng):
        d.loc[a : b - 1, ["c20", "c21"]] = d.loc[a : b - 1, ["c21", "c20"]].values

    return d, {"c12 + 6": add("c12", 6), "a constant moves": add("c17", 1), "c20 and c21 swapped": swap}


def trend(rng, n):
    """A level that falls by two a day, beside a daily course and steady features."""
    t = np.arange(n) / DAY
    d = pd.DataFrame(
        dict(
            level=100 - 2.0 * t + 0.5 * autoregressive(rng, n, 0.9),
            temperature=20 + 6 * daily(n) + 0.3 * t + 0.5 * autoregressive(rng, n, 0.95),
            flow=5 + 0.2 * autoregressive(rng, n, 0.8),
        )
    )
    return d, {"level - 4": add("level", -4), "flow + 0.8": add("flow", 0.8)}


def alone(value, **more):
    """A stream of a single feature, and what can happen to it: sizes in spreads of its own."""
    spread = value.std()

    def noise(d, a, b, rng):
        d.loc[a : b - 1, "value"] += 0.7 * spread * rng.normal(size=b - a)

    def half(d, a, b, rng):
        d.loc[a : b - 1, "value"] = value.mean() + 0.5 * (d.loc[a : b - 1, "value"] - value.mean())

    def spike(d, a, b, rng):
        d.loc[a, "value"] += 5 * spread

    faults = {"offset of 1": add("value", spread), "stuck": hold("value"), "noise of 0.7": noise, "half as high": half, "a spike of 5": spike}
    return pd.DataFrame(dict(value=value)), faults | more


def faster(d, a, b, rng):
    d.loc[a : b - 1, "value"] = d.value.values[a + (1.5 * np.arange(b - a)).astype(int)]


def cycle(rng, n):
    """One feature: a cycle of 37 records."""
    return alone(50 + 10 * np.sin(2 * np.pi * np.arange(n) / 37) + rng.normal(size=n), **{"1.5 as fast": faster})


def beat(rng, n):
    """One feature: beats, about every 40 records."""
    value, i = np.zeros(n + 60), 0
    while i < n:
        length = int(40 + 1.5 * rng.normal())
        value[i : i + length] = 8 * np.exp(-0.5 * ((np.arange(length) - 10) / 2) ** 2)
        i += length
    return alone(value[:n] + 0.3 * rng.normal(size=n), **{"1.5 as fast": faster})


def steady(rng, n):
    """One feature: a level, and noise that goes on for some ten records."""
    return alone(100 + 3 * autoregressive(rng, n, 0.9) + 0.5 * rng.normal(size=n))


def visits(rng, n):
    """One feature: visits, fewer by night."""
    return alone(rng.poisson(200 * np.exp(0.6 * daily(n) + 0.1 * autoregressive(rng, n, 0.9))).astype(float))


def room(rng, n):
    """One feature: a temperature in steps of 0.1 with a daily course."""
    return alone(np.round(21 + 2 * daily(n) + 0.3 * autoregressive(rng, n, 0.98), 1))


def motor(rng, n):
    """One feature: a current that is switched on and off."""
    on = switched(rng, n)
    return alone(on * (12 + 0.5 * autoregressive(rng, n, 0.8)) + 0.05 * rng.normal(size=n))


STREAMS = {f.__name__: f for f in (web, counters, machine, quantised, events, heavy, night, gaps, trend, wide, cycle, beat, steady, visits, room, motor)}


def runs(alerts):
    edges = np.diff(np.r_[0, alerts.astype(int), 0])
    return list(zip(np.where(edges == 1)[0], np.where(edges == -1)[0]))


def stamped(data, seconds):
    """The same with a column `when` in front: a record each so many seconds."""
    times = np.datetime64("2026-01-05T00:00:00") + np.arange(len(data)) * np.timedelta64(seconds, "s")
    data.insert(0, "when", [f"{t}Z" for t in np.datetime_as_string(times)])
    return data


def anomalyd_backtest(binary, options, settings):
    """Runs `anomalyd backtest` with daily trainings."""
    command = [binary, "backtest", *options]
    for setting in ["training.interval=1d", *settings]:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-500:]}")


def backtest(binary, data, options, settings):
    """Whether each record is in an episode, and its p-value, by `anomalyd backtest` with daily trainings."""
    with tempfile.TemporaryDirectory() as folder:
        data.to_csv(f"{folder}/x.csv", index=False)
        anomalyd_backtest(binary, ["--input", f"{folder}/x.csv", "--timestamp", "when", "--output", f"{folder}/s.csv", *options], settings)
        scores = pd.read_csv(f"{folder}/s.csv")
    return scores.alert.fillna(0).astype(float).values > 0, scores.p_value.values


def arguments(about, names, seeds):
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/quick/anomalyd")
    parser.add_argument("--only", nargs="*", default=list(names), choices=list(names))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def replay(binary, name, seed, settings):
    rng = np.random.default_rng(seed * 1000 + sum(map(ord, name)))
    n = DAYS * DAY
    data, faults = STREAMS[name](rng, n)
    step = (n - BEGIN * DAY - 200) // len(faults)
    at = []
    for i, (fault, cause) in enumerate(faults.items()):
        a = BEGIN * DAY + i * step + int(rng.integers(0, step - 400))
        cause(data, a, a + LENGTH, rng)
        at.append((fault, a, a + LENGTH))
    alerts, p_values = backtest(binary, stamped(data, 60), ["--warmup", str(WARMUP * DAY)], ["alerts.false_alarm_rate=1/day", *settings])
    touches = lambda a, b, run: run[0] < b + GRACE and run[1] > a
    judged = [run for run in runs(alerts) if run[1] > WARMUP * DAY]
    found = {}
    for fault, a, b in at:
        hits = [run[0] for run in judged if touches(a, b, run)]
        found[fault] = (max(0, min(hits) - a) if hits else None, sum(hit >= a for hit in hits), alerts[a:b].mean())
    false = [run for run in judged if not any(touches(a, b, run) for _, a, b in at)]
    ordinary = np.ones(n, bool)
    ordinary[: WARMUP * DAY] = False
    for _, a, b in at:
        ordinary[a : b + GRACE] = False
    return found, [b - a for a, b in false], (p_values[ordinary] <= 1e-2).mean()


def main():
    given = arguments(__doc__, STREAMS, 6)
    for name in given.only:
        with ThreadPoolExecutor(given.jobs) as pool:
            all_seeds = list(pool.map(lambda seed: replay(given.bin, name, seed, given.set), range(given.seeds)))
        false = [length for _, lengths, _ in all_seeds for length in lengths]
        days = (DAYS - WARMUP) * given.seeds
        print(f"{name}: {len(false) / days:.2f} false a day, the longest {max(false, default=0)} records; p <= 0.01: {np.mean([p for *_, p in all_seeds]):.4f}")
        for fault in all_seeds[0][0]:
            delays, openings, covered = zip(*[found[fault] for found, *_ in all_seeds])
            delays = [delay for delay in delays if delay is not None]
            delay = f"after {np.median(delays):.0f}" if delays else "never"
            print(f"  {fault:20s} {len(delays)} of {given.seeds}, {delay}; {np.mean(openings):.1f} openings, {np.mean(covered):.0%} covered", flush=True)


if __name__ == "__main__":
    main()
