/** What ended on the whole farm in each minute, as control has counted it. Pure. */

import type { Throughput } from "../bus/messages";

const MINUTE = 60;

/** Hours that can be looked at; control keeps a day. */
export const HOURS = [1, 6, 24] as const;

export interface Minutes {
  /** The middle of each minute, in seconds. */
  readonly at: number[];
  /** Results a second; null where nobody counted. */
  readonly results: (number | null)[];
  /** Share of evaluations that failed, in percent; null where none ended. */
  readonly failing: (number | null)[];
}

/** The minutes since a time, in seconds. */
export function minutesSince(told: Throughput | null, since: number): Minutes {
  const found: Minutes = { at: [], results: [], failing: [] };
  if (told === null) return found;
  told.results.forEach((results, minute) => {
    const failures = told.failures[minute] ?? null;
    const begins = told.began / 1000 + minute * MINUTE;
    if (begins < since - MINUTE) return;
    found.at.push(begins + MINUTE / 2);
    const ended = results === null || failures === null ? null : results + failures;
    found.results.push(results === null ? null : results / MINUTE);
    found.failing.push(ended === null || ended === 0 ? null : ((failures ?? 0) / ended) * 100);
  });
  return found;
}

/** The highest of values, and their mean; null of none. */
export function summary(
  values: readonly (number | null)[],
): { highest: number; mean: number } | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  const sum = known.reduce((total, value) => total + value, 0);
  return { highest: Math.max(...known), mean: sum / known.length };
}
