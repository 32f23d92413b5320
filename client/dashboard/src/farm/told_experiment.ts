/** What a program tells of its experiment, beside what this page has seen itself. Pure. */

import type { ToldExperiment } from "../bus/messages";
import { bestSoFar, type Histogram, histogram, type Point, type Summary } from "./experiment";

/** One number of an experiment that was told. */
export type ToldNumber = ToldExperiment["numbers"][number];

/** What is told of a reservation, the latest where several programs used it; null for nothing. */
export function toldOf(
  experiments: Iterable<ToldExperiment>,
  reservation: string,
): ToldExperiment | null {
  let latest: ToldExperiment | null = null;
  for (const each of experiments) {
    if (each.reservation !== reservation) continue;
    if (latest === null || each.at > latest.at) latest = each;
  }
  return latest;
}

/** What is known of one's own experiments. */
export interface Known {
  readonly told: readonly ToldExperiment[];
  /** When the first outcome of each reservation was seen. */
  readonly seen: ReadonlyMap<string, { readonly began: number }>;
  /** Reservations on whose boards something waits or is measured. */
  readonly busy: ReadonlySet<string>;
  /** Reservations that live. */
  readonly live: { has(reservation: string): boolean };
}

/**
 * The reservation whose experiment is shown where none is chosen: of those that live the one that
 * began last, else of those that are over. Programs tell of themselves after ten seconds only, so
 * what is seen counts as well. Of two that go on it is always the same; empty for none.
 */
export function current({ told, seen, busy, live }: Known): string {
  const began = new Map<string, number>();
  for (const reservation of busy) began.set(reservation, Number.POSITIVE_INFINITY);
  for (const [reservation, each] of seen) began.set(reservation, each.began);
  for (const each of told) began.set(each.reservation, each.began);
  const later = (a: [string, number], b: [string, number]): number =>
    Number(live.has(b[0])) - Number(live.has(a[0])) || (b[1] > a[1] ? 1 : b[1] < a[1] ? -1 : 0);
  return [...began].sort(later)[0]?.[0] ?? "";
}

export interface Standing {
  readonly done: number;
  readonly total: number | null;
  /** Of the run's outcomes, from 0 to 1; null where nobody knows how many there will be. */
  readonly share: number | null;
  /** Outcomes a second. */
  readonly rate: number | null;
  /** Milliseconds until the run's end at that rate; null where that can't be said. */
  readonly left: number | null;
}

/** How far a run has come; `rate` is what is seen now, if it is. */
export function standing({ run, at }: ToldExperiment, rate: number | null): Standing {
  const done = run.results + run.failures;
  const seconds = ((run.ended ?? at) - run.began) / 1000;
  const found = rate ?? (seconds > 0 && done > 0 ? done / seconds : null);
  const { total } = run;
  const missing = total === null ? null : Math.max(0, total - done);
  const going = run.ended === null && missing !== null && found !== null && found > 0;
  return {
    done,
    total,
    share: total === null ? null : total === 0 ? 1 : Math.min(1, done / total),
    rate: found,
    left: going ? (missing / found) * 1000 : null,
  };
}

export interface OverTime {
  /** Seconds. */
  readonly at: number[];
  readonly values: (number | null)[];
  readonly means: (number | null)[];
  readonly best: number[];
}

/** Values over time: summed up as told for what came before the first that was seen, then each. */
export function overTime(
  told: ToldNumber | null,
  points: readonly Point[],
  metric: string,
  highest: boolean,
): OverTime {
  const first = points[0]?.at ?? Number.POSITIVE_INFINITY;
  const earlier = (told?.spans ?? []).filter((span) => span.at < first);
  const at = earlier.map((span) => Math.min(span.at + (told?.span ?? 0) * 500, first));
  const values = points.map((point) => point.values[metric] ?? 0);
  return {
    at: [...at, ...points.map((point) => point.at)].map((milliseconds) => milliseconds / 1000),
    values: [...earlier.map(() => null), ...values],
    means: [...earlier.map((span) => span.mean), ...points.map(() => null)],
    best: bestSoFar(
      [...earlier.map((span) => (highest ? span.highest : span.lowest)), ...values],
      highest,
    ),
  };
}

/** How often values fell into bins: of all that was told, or of those that were seen. */
export function bins(told: ToldNumber | null, values: readonly number[]): Histogram {
  if (told === null) return histogram(values);
  const { lowest, width, counts } = told.histogram;
  return { edges: [...counts, 0].map((_, bin) => lowest + bin * width), counts, width };
}

export interface Best {
  readonly value: number;
  readonly bitstream: string;
  readonly serial: string;
  readonly at: number;
}

/** The best of what was told and of what was seen; null where there is neither. */
export function best(
  told: ToldNumber | null,
  points: readonly Point[],
  metric: string,
  highest: boolean,
): Best | null {
  let found: Best | null = told === null ? null : highest ? told.highest : told.lowest;
  for (const { values, bitstream, serial, at } of points) {
    const value = values[metric];
    if (value === undefined) continue;
    if (found === null || (highest ? value > found.value : value < found.value))
      found = { value, bitstream, serial, at };
  }
  return found;
}

/** Boards compared by what was told of them. */
export function compared(told: ToldNumber, failed: Readonly<Record<string, number>>): Summary[] {
  const serials = [...new Set([...Object.keys(told.boards), ...Object.keys(failed)])].sort();
  return serials
    .filter((serial) => serial !== "")
    .map((serial) => {
      const board = told.boards[serial];
      return {
        serial,
        count: board?.count ?? 0,
        failures: failed[serial] ?? 0,
        mean: board?.mean ?? Number.NaN,
        deviation: board?.deviation ?? Number.NaN,
        lowest: board?.lowest ?? Number.NaN,
        highest: board?.highest ?? Number.NaN,
      };
    });
}
