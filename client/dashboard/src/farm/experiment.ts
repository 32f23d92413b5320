/** What the boards of one's own reservations have measured: seen live, kept in memory, bounded. */

import { check, decode, FarmEvent, Outcome } from "../bus/messages";
import type { Ids } from "../bus/topics";

/** One result, with the numbers that its kind gives. */
export interface Point {
  readonly at: number;
  readonly serial: string;
  readonly reservation: string;
  readonly batch: string;
  readonly bitstream: string;
  readonly evaluation: string;
  readonly values: Readonly<Record<string, number>>;
}

export interface FailureSeen {
  readonly at: number;
  readonly serial: string;
  readonly reservation: string;
  readonly bitstream: string;
  readonly evaluation: string;
  readonly code: string;
  readonly message: string;
}

/** Most results and failures that are kept; older ones go. */
export const MOST_POINTS = 20_000;
export const MOST_FAILURES = 2_000;

/** Most reservations whose outcomes are counted. */
const MOST_RESERVATIONS = 500;

/** Most senders, each of one board in one reservation, whose counts are kept. */
const MOST_STREAMS = 5_000;

/** Numbers of a result that say how it was measured, not what came out. */
const ABOUT_MEASURING = new Set([
  "upload",
  "window",
  "resolution",
  "counted",
  "temperature",
  "samples",
  "rate",
]);

/** What a program gave up, as when it is interrupted: nothing failed. */
const GIVEN_UP = "evaluation_withdrawn";

/** What was seen of one reservation. */
export interface Seen {
  /** When its first outcome came out. */
  readonly began: number;
  readonly results: number;
  readonly failures: number;
}

export class Experiment {
  points: Point[] = [];
  failures: FailureSeen[] = [];
  /** Names of the numbers seen, those that came out first. */
  readonly metrics: string[] = [];
  private readonly seen = new Set<string>();
  /** By reservation. */
  readonly counts = new Map<string, Seen>();
  finished = 0;
  /** Events that never came, by what their senders counted meanwhile. */
  missed = 0;
  private readonly sequences = new Map<string, number>();

  /** Take an event of a reservation; whether it changed anything. Throws when it is not one. */
  take(ids: Ids, payload: Uint8Array): boolean {
    const { event = "", reservation = "", sender = "", serial = "" } = ids;
    const { sequence, data } = decode(FarmEvent, payload);
    // Control counts over all boards and what it tells is on other views.
    if (sender !== "control") this.count(`${reservation}/${sender}/${serial}`, sequence);
    if (event !== "results" && event !== "failures") {
      if (event === "finished") this.finished += 1;
      return event === "finished";
    }
    const outcome = check(Outcome, data);
    const error = (outcome as { error?: { code?: unknown; message?: unknown } }).error;
    if (event === "failures" && error?.code === GIVEN_UP) return false;
    // Workers repeat outcomes until they are acknowledged.
    const key = `${outcome.evaluation}@${outcome.serial}`;
    if (this.seen.has(key)) return false;
    this.seen.add(key);
    this.countOutcome(reservation, outcome.at, event === "results");
    if (event === "results") this.addResult(outcome, reservation);
    else this.addFailure(outcome, reservation, error);
    return true;
  }

  /** A board's worker counts its events: what lies between two of them was missed. */
  private count(stream: string, sequence: number): void {
    const before = this.sequences.get(stream);
    // A lower one is of a sender that has begun anew.
    if (before !== undefined && sequence > before + 1) this.missed += sequence - before - 1;
    this.sequences.set(stream, sequence);
    if (this.sequences.size > MOST_STREAMS) {
      this.sequences.delete(this.sequences.keys().next().value ?? "");
    }
  }

  private countOutcome(reservation: string, at: number, isResult: boolean): void {
    const { began, results, failures } = this.counts.get(reservation) ?? {
      began: at,
      results: 0,
      failures: 0,
    };
    this.counts.set(reservation, {
      began,
      results: results + Number(isResult),
      failures: failures + Number(!isResult),
    });
    if (this.counts.size > MOST_RESERVATIONS) {
      this.counts.delete(this.counts.keys().next().value ?? "");
    }
  }

  /** Results and failures that were seen: of a reservation, or of all. */
  countsOf(reservation = ""): Omit<Seen, "began"> {
    const all = reservation === "" ? [...this.counts.values()] : [this.counts.get(reservation)];
    return {
      results: all.reduce((sum, each) => sum + (each?.results ?? 0), 0),
      failures: all.reduce((sum, each) => sum + (each?.failures ?? 0), 0),
    };
  }

  private addResult(outcome: Outcome, reservation: string): void {
    const values: Record<string, number> = {};
    for (const [name, value] of Object.entries(outcome)) {
      if (typeof value !== "number" || name === "at" || !Number.isFinite(value)) continue;
      values[name] = value;
      this.noteMetric(name);
    }
    const { at, serial, batch, bitstream, evaluation } = outcome;
    this.points.push({ at, serial, reservation, batch, bitstream, evaluation, values });
    if (this.points.length > MOST_POINTS * 1.1) {
      this.forget(this.points.splice(0, this.points.length - MOST_POINTS));
    }
  }

  private addFailure(
    outcome: Outcome,
    reservation: string,
    error: { code?: unknown; message?: unknown } | undefined,
  ): void {
    const { at, serial, bitstream, evaluation } = outcome;
    this.failures.push({
      at,
      serial,
      reservation,
      bitstream,
      evaluation,
      code: String(error?.code ?? "unknown"),
      message: String(error?.message ?? ""),
    });
    if (this.failures.length > MOST_FAILURES * 1.1) {
      this.forget(this.failures.splice(0, this.failures.length - MOST_FAILURES));
    }
  }

  private noteMetric(name: string): void {
    if (this.metrics.includes(name)) return;
    this.metrics.push(name);
    this.metrics.sort((a, b) => Number(ABOUT_MEASURING.has(a)) - Number(ABOUT_MEASURING.has(b)));
  }

  private forget(gone: readonly { evaluation: string; serial: string }[]): void {
    for (const { evaluation, serial } of gone) this.seen.delete(`${evaluation}@${serial}`);
  }
}

export interface Summary {
  readonly serial: string;
  readonly count: number;
  readonly failures: number;
  readonly mean: number;
  readonly deviation: number;
  readonly lowest: number;
  readonly highest: number;
}

/** Count, mean and spread of one number on each board, boards in the order of their serials. */
export function perBoard(
  points: readonly Point[],
  failures: readonly FailureSeen[],
  metric: string,
): Summary[] {
  const sums = new Map<
    string,
    { n: number; mean: number; m2: number; low: number; high: number }
  >();
  for (const { serial, values } of points) {
    const value = values[metric];
    if (value === undefined) continue;
    let sum = sums.get(serial);
    if (sum === undefined) {
      sum = { n: 0, mean: 0, m2: 0, low: value, high: value };
      sums.set(serial, sum);
    }
    // Welford's: exact enough where values are large and differ little.
    sum.n += 1;
    const delta = value - sum.mean;
    sum.mean += delta / sum.n;
    sum.m2 += delta * (value - sum.mean);
    sum.low = Math.min(sum.low, value);
    sum.high = Math.max(sum.high, value);
  }
  const failed = new Map<string, number>();
  for (const { serial } of failures) failed.set(serial, (failed.get(serial) ?? 0) + 1);
  const serials = [...new Set([...sums.keys(), ...failed.keys()])].sort();
  return serials.map((serial) => {
    const sum = sums.get(serial);
    return {
      serial,
      count: sum?.n ?? 0,
      failures: failed.get(serial) ?? 0,
      mean: sum?.mean ?? Number.NaN,
      deviation: sum === undefined || sum.n < 2 ? Number.NaN : Math.sqrt(sum.m2 / (sum.n - 1)),
      lowest: sum?.low ?? Number.NaN,
      highest: sum?.high ?? Number.NaN,
    };
  });
}

export interface Histogram {
  /** Lower edge of each bin, and the upper one of the last. */
  readonly edges: number[];
  readonly counts: number[];
  readonly width: number;
}

/** How often values fall into equal bins; nothing where there are no values. */
export function histogram(values: readonly number[], most = 40): Histogram {
  if (values.length === 0) return { edges: [], counts: [], width: 0 };
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const bins = high === low ? 1 : Math.min(most, Math.max(5, Math.ceil(Math.sqrt(values.length))));
  const width = high === low ? 1 : (high - low) / bins;
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const bin = Math.min(bins - 1, Math.floor((value - low) / width));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  const edges = Array.from({ length: bins + 1 }, (_, bin) => low + bin * width);
  return { edges, counts, width };
}

/** The best value up to each point, for `highest` or for the lowest. */
export function bestSoFar(values: readonly number[], highest: boolean): number[] {
  let best = highest ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return values.map((value) => {
    best = highest ? Math.max(best, value) : Math.min(best, value);
    return best;
  });
}

/** Outcomes a second over the last `window` milliseconds; null while there are too few to say. */
export function outcomeRate(times: readonly number[], now: number, window = 30_000): number | null {
  let first = times.length;
  while (first > 0 && (times[first - 1] ?? 0) > now - window) first -= 1;
  const recent = times.length - first;
  if (recent < 3) return null;
  const span = now - (times[first] ?? now);
  return span <= 0 ? null : (recent / span) * 1000;
}
