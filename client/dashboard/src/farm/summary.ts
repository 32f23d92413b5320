/** The farm at a glance: sums over boards, workers and reservations. Pure. */

import type { Board, FarmState } from "./state";

/** States of a device in the order in which they are shown. */
export const STATES = [
  "serving",
  "ready",
  "preparing",
  "testing",
  "flashing",
  "releasing",
  "broken",
  "quarantined",
  "absent",
] as const;

/** How many boards are in each state, known states first; states of newer farms at the end. */
export function byState(boards: Iterable<Board>): [state: string, count: number][] {
  const counts = new Map<string, number>(STATES.map((state) => [state, 0]));
  for (const { report } of boards) counts.set(report.state, (counts.get(report.state) ?? 0) + 1);
  return [...counts].filter(([, count]) => count > 0);
}

export interface Holder {
  readonly user: string;
  readonly boards: number;
  readonly kinds: string[];
  readonly reservations: number;
  readonly queued: number;
  /** When the first of the reservations ends, the farm's milliseconds; null for none. */
  readonly nextEnd: number | null;
}

/** Who holds boards or waits for some, most boards first. */
export function holders(state: FarmState): Holder[] {
  const found = new Map<string, Holder>();
  for (const { user, kind, devices, state: phase, until } of state.reservations.values()) {
    const known = found.get(user) ?? {
      user,
      boards: 0,
      kinds: [],
      reservations: 0,
      queued: 0,
      nextEnd: null,
    };
    const queued = phase === "queued";
    const held = devices.filter((each) => each.state === "serving" || each.state === "preparing");
    found.set(user, {
      user,
      boards: known.boards + held.length,
      kinds: known.kinds.includes(kind) ? known.kinds : [...known.kinds, kind].sort(),
      reservations: known.reservations + (queued ? 0 : 1),
      queued: known.queued + (queued ? 1 : 0),
      nextEnd: queued ? known.nextEnd : Math.min(until, known.nextEnd ?? until),
    });
  }
  return [...found.values()].sort((a, b) => b.boards - a.boards || (a.user < b.user ? -1 : 1));
}

/** Boards that need somebody: broken, quarantined or away, longest first. */
export function troubled(boards: Iterable<Board>): Board[] {
  const bad = new Set(["broken", "quarantined", "absent"]);
  return [...boards]
    .filter(({ report }) => bad.has(report.state))
    .sort((a, b) => a.report.since - b.report.since);
}
