/** Lines of components' logs: of each component the latest, however many another one writes. */

import type { LogRecord } from "../bus/messages";

export interface LogLine {
  readonly role: string;
  readonly id: string;
  readonly record: LogRecord;
  readonly key: string;
  /** Who holds the board that it is about, where its worker told them; else empty. */
  readonly reservation: string;
  /** Of the board, where the line says it; else empty. */
  readonly serial: string;
}

/** Lines of one component. One whose key was stolen must not crowd out the others. */
export const MOST_LOGS = 300;

/** Components of which lines are kept. The broker lets nobody write as another. */
const MOST_COMPONENTS = 500;

/** Characters of a message that are kept: no sender of ours sends more. */
const LONGEST_MESSAGE = 1200;

const LEVELS = ["debug", "info", "warning", "error", "critical"];

export class Logs {
  private readonly components = new Map<string, LogLine[]>();
  private readonly known = new Set<string>();

  /** Take lines of a component; whether there are new ones among them. */
  take(
    role: string,
    id: string,
    records: readonly LogRecord[],
    about: { reservation: string; serial: string } | null = null,
  ): boolean {
    const name = `${role}/${id}`;
    const lines = this.components.get(name) ?? [];
    if (lines.length === 0 && this.components.size >= MOST_COMPONENTS) return false;
    const before = lines.length;
    let sorted = true;
    for (const record of records.slice(-MOST_LOGS)) {
      // What the worker tells a holder is told to administrators under the same id.
      const key = `${name}/${record.id.slice(0, 64)}`;
      if (this.known.has(key)) continue;
      this.known.add(key);
      const serial = about?.serial ?? serialOf(record);
      sorted &&= (lines.at(-1)?.record.at ?? 0) <= record.at;
      lines.push({
        role,
        id,
        record: shown(record),
        key,
        reservation: about?.reservation ?? "",
        serial,
      });
    }
    if (lines.length === before) return false;
    if (!sorted) lines.sort((a, b) => a.record.at - b.record.at);
    this.components.set(name, lines);
    if (lines.length > MOST_LOGS * 1.1) {
      for (const gone of lines.splice(0, lines.length - MOST_LOGS)) this.known.delete(gone.key);
    }
    return true;
  }

  /** By `role/id`. */
  get names(): string[] {
    return [...this.components.keys()].sort();
  }

  /** All lines of one component, or of all, newest first. */
  latest(component = ""): LogLine[] {
    const all = component === "" ? [...this.components.values()].flat() : this.of(component);
    return all.sort((a, b) => b.record.at - a.record.at);
  }

  private of(component: string): LogLine[] {
    return [...(this.components.get(component) ?? [])];
  }
}

function serialOf({ fields }: LogRecord): string {
  return typeof fields.serial === "string" ? fields.serial : "";
}

/** A record of which nothing moves, hides or turns around other text. */
function shown(record: LogRecord): LogRecord {
  return { ...record, message: printable(record.message), logger: printable(record.logger) };
}

function printable(text: string): string {
  return text.slice(0, LONGEST_MESSAGE).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, "\uFFFD");
}

/** How much a level matters; the more, the higher. */
export function rank(level: string): number {
  return Math.max(0, LEVELS.indexOf(level));
}

/** A level as it may stand in the name of a class. */
export function levelClass(level: string): string {
  return LEVELS.includes(level) ? level : "info";
}

/** Whether a line has all the words, in whatever it says. */
export function matchesLine({ role, id, record }: LogLine, text: string): boolean {
  const row = `${role} ${id} ${record.level} ${record.logger} ${record.message}`.toLowerCase();
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fields = words.length === 0 ? "" : Object.values(record.fields).join(" ").toLowerCase();
  return words.every((word) => row.includes(word) || fields.includes(word));
}

/** Lines about a board: those that name it, and of what was told to its holder, its worker's. */
export function aboutBoard(line: LogLine, serial: string, worker: string): boolean {
  if (line.reservation !== "") return line.serial === serial && line.id === worker;
  return line.serial === serial || line.record.message.includes(serial);
}
