"""The statistics, tables and verdicts of throughput.py."""

import json
import math
import os
import platform
import statistics

ROW_TITLES = {"static": "static file", "proxy": "reverse proxy", "tls": "static file over TLS"}
H2O_LEAST = 0.97  # of the rate of the packaged h2o
COST_SECONDS, COST_MOST = 2, 2  # percent of a request's CPU time
OTHERS_MOST = 0.05  # of the CPU, in the median; above it a run is undecided


def describe_machine():
    model = "?"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def median_of(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def interval_of_median(ordered):
    """The narrowest pair of order statistics that holds the median in 95 % of cases."""
    n, tail, k = len(ordered), 0.0, 0
    while True:
        tail += math.comb(n, k) / 2.0 ** n
        if tail > 0.025 or k >= (n - 1) // 2:
            break
        k += 1
    k = max(0, k - 1)
    return ordered[k], ordered[n - 1 - k]


def compare(samples, a, b):
    rates_a, rates_b = ([sample.rps for sample in samples[name]] for name in (a, b))
    by_round = sorted(x / y for x, y in zip(rates_a, rates_b))
    low, high = interval_of_median(by_round)
    return {"of_medians": statistics.median(rates_a) / statistics.median(rates_b),
            "by_round": statistics.median(by_round), "low": low, "high": high,
            "cpu": median_of(samples[a], "cpu_us") / median_of(samples[b], "cpu_us")}


def print_table(samples, labels):
    width = max(len(label) for label in labels.values())
    print(f"{'server':{width}}  {'k req/s':>8}  {'min - max':>13}  {'CPU us/req':>10}  "
          f"{'busiest':>7}  {'p50 us':>7}")
    for name, rounds in samples.items():
        rates = [sample.rps / 1e3 for sample in rounds]
        print(f"{labels[name]:{width}}  {statistics.median(rates):8.1f}  "
              f"{min(rates):5.1f} - {max(rates):5.1f}  {median_of(rounds, 'cpu_us'):10.2f}  "
              f"{median_of(rounds, 'busiest'):7.0%}  {median_of(rounds, 'latency_us'):7.0f}")


def print_ratios(ratios):
    width = max(len(name) for name in ratios)
    print(f"\n{'ratio':{width}}  {'of medians':>10}  {'median by round':>15}  "
          f"{'95 % interval':>13}  {'CPU/req':>8}")
    for name, ratio in ratios.items():
        print(f"{name:{width}}  {ratio['of_medians']:10.3f}  {ratio['by_round']:15.3f}  "
              f"{ratio['low']:5.3f} - {ratio['high']:5.3f}  {ratio['cpu']:8.3f}")


def others_of(samples):
    return sorted(sample.others for rounds in samples.values() for sample in rounds)


def doubts(samples, ratios):
    """Reasons why this run proves nothing, however good it looks."""
    found = []
    if samples and statistics.median(others_of(samples)) > OTHERS_MOST:
        found.append(f"others took more than {OTHERS_MOST:.0%} of the CPU")
    if "lastcall/bare-h2o" in ratios and ratios["lastcall/bare-h2o"]["low"] > 1:
        found.append("lastcall beats bare libh2o, which does the same and less")
    return found


def print_others(samples):
    others = others_of(samples)
    print(f"\nCPU taken by others: median {statistics.median(others):.0%}, most {others[-1]:.0%}")


def print_split(samples, pairs):
    """Warn of ratios that the accept race has made; see the top."""
    def apart_by(a, b):
        return abs(median_of(samples[a], "busiest") - median_of(samples[b], "busiest"))

    apart = [pair for pair in pairs if apart_by(*pair) > 0.10]
    if apart:
        print(f"caution: connections were not spread alike over the threads of "
              f"{', '.join(' and '.join(pair) for pair in apart)}: compare with --threads 1")


def print_together(apart):
    print("\nCPU time of a request beside h2o's, both under load at once on one core:")
    for name, one in apart.items():
        print(f"{name.partition(',')[0]:8}{one['percent']:+.1f} %  "
              f"(95 % interval {one['low']:+.1f} to {one['high']:+.1f} %)")


def decide(ratio, limit, strict=False):
    if ratio["low"] <= limit <= ratio["high"]:
        return "UNDECIDED"
    figure = ratio["of_medians"]
    return "ok" if figure > limit or (figure == limit and not strict) else "NOT MET"


def judge(ratios):
    """What is promised: (text, verdict) a line."""
    lines = []
    if "lastcall/h2o" in ratios:
        ratio = ratios["lastcall/h2o"]
        lines.append((f"/hello vs h2o (file): {ratio['of_medians']:.2f} (expected >= {H2O_LEAST})",
                      decide(ratio, H2O_LEAST)))
    for row, title in ROW_TITLES.items():
        name = f"{row}: lastcall/h2o"
        if name in ratios:
            lines.append((f"{title} vs h2o: {ratios[name]['of_medians']:.2f} (expected >= {H2O_LEAST})",
                          decide(ratios[name], H2O_LEAST)))
    if "lastcall/nginx" in ratios:
        ratio = ratios["lastcall/nginx"]
        lines.append((f"/hello vs nginx (file): {ratio['of_medians']:.2f} (expected > 1.00)",
                      decide(ratio, 1.00, strict=True)))
    if "cost" in ratios:
        lines.append(judge_cost(ratios["cost"]))
    return lines


def judge_cost(ratio):
    cost, low, high = (ratio[key] for key in ("percent", "low", "high"))
    verdict = ("NOT CREDIBLE" if high < 0 else "ok" if high <= COST_MOST
               else "NOT MET" if low > COST_MOST else "UNDECIDED")
    return (f"cost of the active count vs bare libh2o: {cost:.1f} % of a request's CPU time "
            f"(expected <= {COST_MOST} %; 95 % interval {low:.1f} to {high:.1f} %)", verdict)


def settings_of(options):
    parts = []
    if options.pool or set(options.rows) != {"cost"}:
        parts.append(f"{options.rounds} rounds of {options.seconds} s, interleaved, every other one "
                     f"backwards; wrk -t1 -c{options.connections}; {options.threads} threads a server; "
                     f"all stay up")
    if options.together and not options.pool:
        parts.append(f"{options.together} rounds of {COST_SECONDS} s for both on one core")
    if "cost" in options.rows and not options.pool:
        parts.append(f"{options.cost_rounds} rounds of {COST_SECONDS} s for the cost, both on one core")
    return "; then ".join(parts)


def print_head(options, servers, skipped):
    print(f"machine:  {describe_machine()}")
    versions = dict.fromkeys(f"{server.name} {server.version}" for server in servers)
    print("versions: " + ", ".join([*versions, f"wrk {options.wrk_version}"]))
    print(f"settings: {settings_of(options)}")
    for name, why in skipped.items():
        print(f"skipped:  {name}: {why}")
    print()


def write_json(options, servers, skipped, samples, ratios, verdict):
    if options.json is None:
        return
    result = {
        "machine": describe_machine(), "settings": settings_of(options),
        "wrk": options.wrk_version,
        "versions": {server.name: server.version for server in servers}, "skipped": skipped,
        "rounds": {name: [sample._asdict() for sample in rounds]
                   for name, rounds in samples.items()},
        "ratios": ratios,
        "verdict": [{"line": line, "verdict": word} for line, word in verdict],
    }
    with open(options.json, "w") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
