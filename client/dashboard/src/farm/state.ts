/** What is known of the farm, and how each message changes that. No I/O, no clock. */

import * as m from "../bus/messages";
import * as t from "../bus/topics";
import { Logs } from "./logs";
import { addSample, type Sample } from "./rates";

export interface Board {
  readonly worker: string;
  readonly report: m.Device;
  /** When its state was seen to change, this machine's milliseconds; 0 for never. */
  readonly changedAt: number;
}

export interface Worker {
  readonly id: string;
  state: m.WorkerState | null;
  heartbeat: m.WorkerHeartbeat | null;
  /** When its last heartbeat came, this machine's milliseconds; 0 for never. */
  heardAt: number;
  samples: Sample[];
}

export interface Happening {
  readonly at: number;
  readonly worker: string;
  readonly event: m.DeviceEvent;
  readonly key: number;
}

/** A payload that was not a message. */
export interface Unreadable {
  readonly topic: string;
  readonly why: string;
  at: number;
  count: number;
}

/** Parts of the state that views read; each is drawn anew when it has changed. */
export type Part =
  | "control"
  | "workers"
  | "boards"
  | "reservations"
  | "claims"
  | "experiments"
  | "history"
  | "throughput"
  | "happenings"
  | "logs"
  | "principals"
  | "unreadable";

export interface FarmState {
  controls: Map<string, m.ControlState>;
  heartbeat: m.Heartbeat | null;
  /** When the last heartbeat came, this machine's milliseconds; 0 for never. */
  heartbeatAt: number;
  workers: Map<string, Worker>;
  /** By worker and serial: several workers may say that they have a board. */
  boards: Map<string, Board>;
  reservations: Map<string, m.Reservation>;
  claims: Map<string, m.Claim>;
  /** What one's own programs tell of their evaluations, by client and reservation. */
  experiments: Map<string, m.ToldExperiment>;
  history: m.HistoryEntry[];
  /** What ended in each minute of the last day; null while control has not told. */
  throughput: m.Throughput | null;
  happenings: Happening[];
  logs: Logs;
  groups: Map<string, string[]>;
  unreadable: Map<string, Unreadable>;
  counter: number;
}

/** Most that is kept of what has no end: newest stay. */
export const MOST_HAPPENINGS = 2000;
export const MOST_UNREADABLE = 50;

export function emptyState(): FarmState {
  return {
    controls: new Map(),
    heartbeat: null,
    heartbeatAt: 0,
    workers: new Map(),
    boards: new Map(),
    reservations: new Map(),
    claims: new Map(),
    experiments: new Map(),
    history: [],
    throughput: null,
    happenings: [],
    logs: new Logs(),
    groups: new Map(),
    unreadable: new Map(),
    counter: 0,
  };
}

export interface Message {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** When it came, this machine's milliseconds. */
  readonly at: number;
}

/** Take one message; the part that it changed, or null. Never throws, whatever the message is. */
export function apply(state: FarmState, message: Message): Part | null {
  const read = t.readTopic(message.topic);
  if (read === null) return null;
  try {
    return reduce(state, read.family, read.ids, message);
  } catch (error) {
    noteUnreadable(state, message, error instanceof Error ? error.message : String(error));
    return "unreadable";
  }
}

function reduce(state: FarmState, family: t.Family, ids: t.Ids, message: Message): Part | null {
  const { payload, at } = message;
  const gone = payload.length === 0;
  const id = (level: string): string => ids[level] ?? "";
  switch (family) {
    case t.DEVICE: {
      const key = boardKey(id("worker"), id("serial"));
      if (gone) state.boards.delete(key);
      else {
        const report = m.decode(m.Device, payload);
        const known = state.boards.get(key);
        const same = known === undefined || known.report.state === report.state;
        const changedAt = same ? (known?.changedAt ?? 0) : at;
        state.boards.set(key, { worker: id("worker"), report, changedAt });
      }
      return "boards";
    }
    case t.WORKER_HEARTBEAT: {
      const worker = workerOf(state, id("worker"));
      worker.heartbeat = gone ? null : m.decode(m.WorkerHeartbeat, payload);
      worker.heardAt = gone ? 0 : at;
      if (worker.heartbeat !== null) addSample(worker.samples, at, worker.heartbeat);
      return "workers";
    }
    case t.WORKER_STATE:
      if (gone) state.workers.delete(id("worker"));
      else workerOf(state, id("worker")).state = m.decode(m.WorkerState, payload);
      return "workers";
    case t.CONTROL_HEARTBEAT:
      state.heartbeat = gone ? null : m.decode(m.Heartbeat, payload);
      state.heartbeatAt = gone ? 0 : at;
      return "control";
    case t.CONTROL_STATE:
      keep(state.controls, id("control"), gone ? null : m.decode(m.ControlState, payload));
      return "control";
    case t.RESERVATION: {
      const known = state.reservations.get(id("reservation"));
      const next = gone ? null : m.decode(m.Reservation, payload);
      // Two controls' words may overtake each other: of two revisions the higher is newer.
      if (next !== null && known !== undefined && known.revision > next.revision) return null;
      keep(state.reservations, id("reservation"), next);
      return "reservations";
    }
    case t.CLAIM:
      keep(state.claims, id("serial"), gone ? null : m.decode(m.Claim, payload));
      return "claims";
    case t.EXPERIMENT: {
      const key = `${id("client")}/${id("reservation")}`;
      keep(state.experiments, key, gone ? null : m.decode(m.ToldExperiment, payload));
      return "experiments";
    }
    case t.CONTROL_HISTORY:
      if (gone) return null;
      state.history = mergeHistory(state.history, m.decode(m.History, payload).entries);
      return "history";
    case t.CONTROL_THROUGHPUT:
      state.throughput = gone ? null : m.decode(m.Throughput, payload);
      return "throughput";
    case t.WORKER_EVENT: {
      if (gone) return null;
      const event = m.decode(m.DeviceEvent, payload);
      state.counter += 1;
      state.happenings.push({ at: event.at, worker: id("worker"), event, key: state.counter });
      trim(state.happenings, MOST_HAPPENINGS);
      return "happenings";
    }
    case t.LOG:
      // An empty one asks the broker whether its writer is one.
      if (gone) return null;
      return state.logs.take(id("role"), id("id"), [m.decode(m.LogRecord, payload)])
        ? "logs"
        : null;
    case t.LOG_RECENT: {
      if (gone) return null;
      const { lines } = m.decode(m.RecentLog, payload);
      return state.logs.take(id("role"), id("id"), lines) ? "logs" : null;
    }
    case t.DEVICE_LOG: {
      if (gone) return null;
      const about = { reservation: id("reservation"), serial: id("serial") };
      const { lines } = m.decode(m.RecentLog, payload);
      return state.logs.take("worker", id("sender"), lines, about) ? "logs" : null;
    }
    case t.PRINCIPALS: {
      const known = gone ? [] : m.decode(m.Principals, payload).principals;
      state.groups = new Map(known.map((each) => [each.id, each.groups]));
      return "principals";
    }
    default:
      return null;
  }
}

export function boardKey(worker: string, serial: string): string {
  return `${worker}/${serial}`;
}

/** History with further entries, newest first, each number once. */
export function mergeHistory(
  known: readonly m.HistoryEntry[],
  more: readonly m.HistoryEntry[],
  most = 5000,
): m.HistoryEntry[] {
  const byNumber = new Map(known.map((entry) => [entry.number, entry]));
  for (const entry of more) byNumber.set(entry.number, entry);
  return [...byNumber.values()].sort((a, b) => b.number - a.number).slice(0, most);
}

function workerOf(state: FarmState, id: string): Worker {
  let worker = state.workers.get(id);
  if (worker === undefined) {
    worker = { id, state: null, heartbeat: null, heardAt: 0, samples: [] };
    state.workers.set(id, worker);
  }
  return worker;
}

function keep<T>(map: Map<string, T>, key: string, value: T | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}

function trim(list: unknown[], most: number): void {
  // Not at each message: cutting the front off a long list is not free.
  if (list.length > most * 1.1) list.splice(0, list.length - most);
}

function noteUnreadable(state: FarmState, { topic, at }: Message, why: string): void {
  const known = state.unreadable.get(topic);
  if (known !== undefined) {
    known.at = at;
    known.count += 1;
  } else if (state.unreadable.size < MOST_UNREADABLE) {
    state.unreadable.set(topic, { topic, why, at, count: 1 });
  }
}
