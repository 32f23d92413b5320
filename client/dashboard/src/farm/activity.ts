/** What happened, from control's history and from workers' events: one list, newest first. Pure. */

import type { HistoryEntry } from "../bus/messages";
import type { Happening } from "./state";

export interface Activity {
  readonly key: string;
  readonly at: number;
  /** What kind of thing, for the filter: a history event, or `state`, `added`, `removed`. */
  readonly what: string;
  readonly actor: string;
  readonly serial: string;
  readonly worker: string;
  readonly reservation: string;
  readonly user: string;
  readonly text: string;
}

export interface ActivityFilter {
  readonly text: string;
  /** `people`: what was asked for and decided; `boards`: what boards did; empty: all. */
  readonly kind: string;
}

export function fromHistory(entry: HistoryEntry): Activity {
  return {
    key: `h${entry.number}`,
    at: entry.at,
    what: entry.event,
    actor: entry.actor,
    serial: entry.serial ?? "",
    worker: entry.worker ?? "",
    reservation: entry.reservation ?? "",
    user: entry.user ?? "",
    text: entry.reason,
  };
}

export function fromHappening({ at, worker, event, key }: Happening): Activity {
  const what = event.event === "state" ? event.state : event.event;
  return {
    key: `e${key}`,
    at,
    what,
    actor: worker,
    serial: event.serial,
    worker,
    reservation: "",
    user: "",
    text: event.reason,
  };
}

/** Both, newest first. */
export function activities(
  history: readonly HistoryEntry[],
  happenings: readonly Happening[],
  kind = "",
): Activity[] {
  const all: Activity[] = [];
  if (kind !== "boards") for (const entry of history) all.push(fromHistory(entry));
  if (kind !== "people") for (const each of happenings) all.push(fromHappening(each));
  return all.sort((a, b) => b.at - a.at || (a.key < b.key ? 1 : -1));
}

export function matchesActivity(activity: Activity, text: string): boolean {
  const { what, actor, serial, worker, reservation, user } = activity;
  const row = [what, actor, serial, worker, reservation, user, activity.text]
    .join(" ")
    .toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => row.includes(word));
}
