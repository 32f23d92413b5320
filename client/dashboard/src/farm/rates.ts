/** How many evaluations end in a second, and how many of them fail: from workers' counters. */

import type { WorkerHeartbeat } from "../bus/messages";

/** What a worker had counted at a time, in this machine's milliseconds. */
export interface Sample {
  readonly at: number;
  readonly session: string;
  readonly results: number;
  readonly failures: number;
}

export interface Rate {
  /** Results a second. */
  readonly results: number;
  /** Failures a second. */
  readonly failures: number;
}

export const NO_RATE: Rate = { results: 0, failures: 0 };

/** Milliseconds over which rates are taken: shorter would jump with each batch. */
export const WINDOW = 30_000;

/** Remember what a heartbeat counts; counts of another session of the worker begin anew. */
export function addSample(samples: Sample[], at: number, { session, load }: WorkerHeartbeat): void {
  if (load.results === null || load.failures === null) return;
  if (samples.length > 0 && samples[0]?.session !== session) samples.length = 0;
  samples.push({ at, session, results: load.results, failures: load.failures });
  let old = 0;
  while (samples.length - old > 2 && (samples[old + 1]?.at ?? at) < at - WINDOW) old += 1;
  if (old > 0) samples.splice(0, old);
}

/** The rate between the first and the last sample; null while there are not two. */
export function rateOf(samples: readonly Sample[]): Rate | null {
  const first = samples[0];
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.at <= first.at) return null;
  const seconds = (last.at - first.at) / 1000;
  return {
    results: Math.max(0, last.results - first.results) / seconds,
    failures: Math.max(0, last.failures - first.failures) / seconds,
  };
}

export function addRates(rates: Iterable<Rate | null>): Rate | null {
  let sum: { results: number; failures: number } | null = null;
  for (const rate of rates) {
    if (rate === null) continue;
    sum ??= { results: 0, failures: 0 };
    sum.results += rate.results;
    sum.failures += rate.failures;
  }
  return sum;
}

/** The share of evaluations that fail, 0 to 1; null where nothing has ended. */
export function failureShare(rate: Rate | null): number | null {
  if (rate === null || rate.results + rate.failures === 0) return null;
  return rate.failures / (rate.results + rate.failures);
}
