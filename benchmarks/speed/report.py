"""Writes the table and the plots of README.md from the results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "recdb"
from matplotlib import pyplot as plt  # noqa: E402  after the backend is chosen

BEGIN, END = "<!-- results -->", "<!-- /results -->"
Result = dict[str, Any]
RIVALS = (
    "kNN rebuilt per request",
    "ALS in memory",
    "ALS in memory, catalogue asked",
    "item-kNN in memory",
    "item-kNN in memory, catalogue asked",
    "nearest items by pgvector",
)


def write_report(folder: Path) -> None:
    """Rewrite the part between the markers of README.md, and the plots."""
    results = sorted((json.loads(path.read_text()) for path in (folder / "results").glob("*.json")), key=by_users)
    curves = [result for result in results if result.get("curve")]
    text = "\n".join([*machines(results), *table(results), *curve_table(curves)])
    plot_growth(results, folder / "results" / "growth.svg")
    text += "\n![Latency of recommend() by number of users](results/growth.svg)\n"
    if curves:
        plot_curve(curves[-1], folder / "results" / "curve.svg")
        text += "\n![Ranking quality against latency](results/curve.svg)\n"
    readme = folder / "README.md"
    whole = readme.read_text()
    before, after = whole[: whole.index(BEGIN) + len(BEGIN)], whole[whole.index(END) :]
    readme.write_text(f"{before}\n\n{text}\n{after}")


def by_users(result: Result) -> int:
    """Return the number of users, by which results are sorted."""
    return int(result["users"])


def machines(results: list[Result]) -> list[str]:
    """Describe the machines of the results, each machine once."""
    lines = []
    for result in results:
        m = result["machine"]
        line = (
            f"{m['cores']} cores ({m['processor']}), {m['memory_gb']} GB; PostgreSQL {m['postgresql']}, pgvector "
            f"{m['pgvector']}, Python {m['python']}; "
            + ", ".join(f"{name} {value}" for name, value in m["settings"].items())
            + "."
        )
        if line not in lines:
            lines.append(line)
    return [*lines, ""]


def ms(figures: Result | None) -> str:
    """Write percentiles of milliseconds."""
    if figures is None:
        return ""
    values = (figures[name] for name in ("p50", "p95", "p99", "max"))
    return " / ".join(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values)


def cost(figures: Result | None) -> str:
    """Write the time and peak memory of a command."""
    return f"{figures['seconds']:,.1f} s, {figures['peak_mb']:,.0f} MB" if figures else ""


def rivals(name: str) -> Callable[[Result], str]:
    """Write a rival's latency and, where it holds models, its memory."""

    def write(result: Result) -> str:
        figures = result["rivals_ms"].get(name)
        if figures is None:
            return "not measured"
        held = f"; process {figures['process_mb']:,} MB" if "process_mb" in figures else ""
        return ms(figures) + held

    return write


def calls_a_second(name: str) -> Callable[[Result], str]:
    """Write throughput by number of clients."""

    def write(result: Result) -> str:
        measured = result.get(name)
        if not measured:
            return "not measured"
        return " / ".join(f"{each['calls_per_second']:,.0f} ({each['clients']})" for each in measured)

    return write


def against(name: str) -> Callable[[Result], str]:
    """Write how many times longer a rival's median is than that of recommend()."""

    def write(result: Result) -> str:
        figures = result["rivals_ms"].get(name)
        if figures is None:
            return "not measured"
        times = figures["p50"] / result["latency_ms"]["average"]["p50"]
        return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"

    return write


def refreshed(position: int) -> Callable[[Result], str]:
    """Write the cost of an incremental refresh."""

    def write(result: Result) -> str:
        r = result["refresh"][position]
        readers = f"; readers' p95 {r['readers_ms']['p95']:.3g} ms" if r["readers_ms"] else ""
        share = r["seconds"] / result["train"]["seconds"]
        return (
            f"{r['seconds']:.2f} s, {share:.1%} of a full one ({r['events']:,} events, {r['users']:,} users){readers}"
        )

    return write


def profile(size: int) -> Callable[[Result], str]:
    """Write the latency for a profile size."""
    return lambda result: ms(result["latency_ms"].get(str(size)))


def table(results: list[Result]) -> list[str]:
    """Write a table with a column for each size."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("items; interactions", lambda r: f"{r['items']:,}; {r['interactions']:,}"),
        (
            "n; M; dimension; profile limit",
            lambda r: "; ".join(
                str(r["model"][name]) for name in ("neighbors", "item_neighbors", "dimension", "profile_limit")
            ),
        ),
        ("**latency of recommend(), ms: p50 / p95 / p99 / max**", lambda r: ""),
        ("average users", lambda r: f"{ms(r['latency_ms']['average'])} ({r['profile_items']:.0f} items)"),
        *((f"profiles of {size:,}", profile(size)) for size in (1, 10, 40, 100, 1_000)),
        ("average users after the refreshes below", lambda r: ms(r["latency_after_refreshes_ms"])),
        ("**calls a second (clients)**", lambda r: ""),
        ("straight", calls_a_second("throughput")),
        ("through pgbouncer, transaction mode", calls_a_second("throughput_pgbouncer")),
        ("**batches**", lambda r: ""),
        ("recommend_batch(), ms a user", lambda r: f"{r['recommend_batch']['ms_per_user']:.2f}"),
        (
            "recdb recommend-all",
            lambda r: f"{r['recommend_all']['users_per_second']:,} users/s; {cost(r['recommend_all'])}",
        ),
        ("**the job: time, peak memory of its process**", lambda r: ""),
        ("generate and load", lambda r: cost(r["load"])),
        ("recdb refresh --full", lambda r: cost(r["train"])),
        (
            "of it, in SQL; in training",
            lambda r: f"{r['train'].get('rebuild_seconds', 0):,.1f} s; {r['train'].get('train_seconds', 0):,.1f} s",
        ),
        ("CALL recdb.refresh() after 0.1 % new events", refreshed(0)),
        ("after 1 % more", refreshed(1)),
        ("after 10 % more", refreshed(2)),
        ("database, MB", lambda r: f"{r['train']['sizes_mb']['database']:,}"),
        (
            "of it",
            lambda r: ", ".join(f"{n} {v:,}" for n, v in r["train"]["sizes_mb"].items() if n != "database"),
        ),
        ("**rivals, ms: p50 / p95 / p99 / max**", lambda r: ""),
        *((name, rivals(name)) for name in RIVALS),
        ("**their median in medians of recommend()**", lambda r: ""),
        *((name, against(name)) for name in RIVALS),
    ]
    lines = ["| users | " + " | ".join(f"{result['users']:,}" for result in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    lines += [f"| {name} | " + " | ".join(write(result) for result in results) + " |" for name, write in rows]
    return [*lines, ""]


def curve_table(results: list[Result]) -> list[str]:
    """Write ranking quality and latency of each setting."""
    lines = []
    for result in results:
        lines += [f"### Ranking quality against latency, {result['users']:,} users", ""]
        lines += ["| n | M | profile limit | ndcg@20 | p50, ms | p95, ms |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {p['neighbors']} | {p['item_neighbors']} | {p['profile_limit']} | {p['ndcg@20']:.4f} "
            f"| {p['latency_ms']['p50']:.2f} | {p['latency_ms']['p95']:.2f} |"
            for p in sorted(result["curve"], key=lambda p: p["latency_ms"]["p50"])
        ]
        lines.append("")
    return lines


def plot_growth(results: list[Result], path: Path) -> None:
    """Plot latency and training by the number of users, both axes logarithmic."""
    users = [result["users"] for result in results]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name in ("p50", "p95"):
        values = [r["latency_ms"]["average"][name] for r in results]
        left.plot(users, values, "o-", label=f"recommend() {name}")
    for name, marker in (("ALS in memory", "s:"), ("item-kNN in memory", "^:"), ("kNN rebuilt per request", "x:")):
        known = [(r["users"], r["rivals_ms"][name]["p50"]) for r in results if name in r["rivals_ms"]]
        if known:
            left.plot(*zip(*known, strict=True), marker, label=f"{name} p50")
    left.set(xscale="log", yscale="log", xlabel="users", ylabel="milliseconds", title="A request")
    right.plot(users, [r["train"]["seconds"] for r in results], "o-", label="recdb refresh --full")
    right.plot(users, [r["refresh"][1]["seconds"] for r in results], "o-", label="refresh() after 1 %")
    right.plot(users, [r["recommend_all"]["seconds"] for r in results], "o-", label="recommend-all")
    right.set(xscale="log", yscale="log", xlabel="users", ylabel="seconds", title="The job")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def plot_curve(result: Result, path: Path) -> None:
    """Plot ndcg@20 against the median latency; each point is a setting n/M/profile limit."""
    figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for p in result["curve"]:
        place = p["latency_ms"]["p50"], p["ndcg@20"]
        axes.plot(*place, "o", color="tab:blue")
        name = f"{p['neighbors']}/{p['item_neighbors']}/{p['profile_limit']}"
        axes.annotate(name, place, xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set(xlabel="recommend(), p50 in ms", ylabel="ndcg@20", title="n / M / profile limit")
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
