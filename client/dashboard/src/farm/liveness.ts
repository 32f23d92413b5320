/** Whether control and workers are there, from when they were heard. Pure: the time is given. */

import type { FarmState, Worker } from "./state";

/** Heartbeats that may be missed, as `schemas/icebus/schemas/liveness.py` has it. */
const MISSED = 3;

/** Seconds between heartbeats while none has been heard. */
const USUAL_INTERVAL = 1;

/** Milliseconds that a heartbeat may be late on its way through broker and network. */
const SLACK = 1_000;

export type Control =
  | { phase: "online"; leader: string | null }
  | { phase: "unheard" }
  | { phase: "silent"; since: number };

/** How long a heartbeat is good for, milliseconds. */
export function goodFor(state: FarmState): number {
  return MISSED * (state.heartbeat?.interval ?? USUAL_INTERVAL) * 1000 + SLACK;
}

/**
 * How control is.
 *
 * @param heardSince when this page began to listen without a gap, milliseconds.
 */
export function controlStatus(state: FarmState, heardSince: number, now: number): Control {
  const lasting = goodFor(state);
  if (state.heartbeat !== null && now - state.heartbeatAt <= lasting) {
    const leader = [...state.controls].find(([, each]) => each.leading && each.state === "online");
    return { phase: "online", leader: leader?.[0] ?? null };
  }
  if (now - heardSince <= lasting) return { phase: "unheard" };
  return { phase: "silent", since: state.heartbeatAt || heardSince };
}

export type Presence = "fresh" | "silent" | "lost" | "offline" | "starting" | "unknown";

/** Whether a worker's words are of now. One that echoes no heartbeat is silent. */
export function workerPresence(
  worker: Worker | undefined,
  state: FarmState,
  heardSince: number,
  now: number,
): Presence {
  if (worker?.state == null) return "unknown";
  const phase = worker.state.state;
  if (phase === "lost" || phase === "offline") return phase;
  if (phase === "init") return "starting";
  const lasting = goodFor(state);
  if (now - Math.max(worker.heardAt, heardSince) <= lasting) return "fresh";
  // Without control nobody echoes: that says nothing of workers.
  if (now - state.heartbeatAt > lasting) return "fresh";
  return "silent";
}
