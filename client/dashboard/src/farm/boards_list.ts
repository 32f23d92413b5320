/** Which boards are listed, in which order, with which columns. Pure. */

import type { Board } from "./state";

export interface Filter {
  /** Words that must all stand somewhere in the row; `name=value` asks for a label or a column. */
  readonly text: string;
  /** States that are listed; none: all. */
  readonly states: readonly string[];
}

export const COLUMNS = [
  "serial",
  "state",
  "age",
  "holder",
  "kind",
  "worker",
  "reason",
  "firmware",
  "chip",
  "port",
] as const;

export const DEFAULT_COLUMNS: readonly string[] = [
  "serial",
  "state",
  "age",
  "holder",
  "kind",
  "worker",
  "reason",
];

const WIDTHS: Readonly<Record<string, number>> = {
  serial: 12,
  state: 9,
  age: 7.5,
  reason: 20,
  firmware: 9,
  worker: 8,
};

/** How wide a column is, in rem: fixed, so that nothing jumps whatever comes into it. */
export function columnWidth(column: string): number {
  return WIDTHS[column] ?? 7;
}

/** What a column is called. Columns of labels have `label:` before the label's name. */
export function title(column: string): string {
  if (column.startsWith("label:")) return column.slice("label:".length);
  return column === "age" ? "for" : column;
}

/** What stands in a column, as it is sorted, filtered and searched. */
export function cell(board: Board, column: string): string {
  const { report } = board;
  switch (column) {
    case "serial":
      return report.serial;
    case "state":
      return report.state;
    case "holder":
    case "user":
      return report.user ?? "";
    case "kind":
      return report.kind ?? "";
    case "worker":
      return board.worker;
    case "reason":
      return report.reason;
    case "firmware":
      return [report.firmware, report.firmware_version].filter(Boolean).join(" ");
    case "chip":
      return report.chip;
    case "port":
      return report.port;
    default:
      return column.startsWith("label:") ? (report.labels[column.slice(6)] ?? "") : "";
  }
}

/** The labels that boards have, each of which may be a column. */
export function labelsOf(boards: Iterable<Board>): string[] {
  const names = new Set<string>();
  for (const { report } of boards) for (const name of Object.keys(report.labels)) names.add(name);
  return [...names].sort();
}

const SEARCHED = ["serial", "state", "holder", "kind", "worker", "reason", "firmware", "chip"];

function hasWord(board: Board, word: string): boolean {
  const equals = word.indexOf("=");
  if (equals > 0) {
    const name = word.slice(0, equals);
    const wanted = word.slice(equals + 1);
    const value = cell(board, name) || cell(board, `label:${name}`);
    return value.toLowerCase() === wanted;
  }
  if (SEARCHED.some((column) => cell(board, column).toLowerCase().includes(word))) return true;
  return Object.entries(board.report.labels).some(([name, value]) =>
    `${name}=${value}`.toLowerCase().includes(word),
  );
}

export function matchesFilter(board: Board, filter: Filter): boolean {
  if (filter.states.length > 0 && !filter.states.includes(board.report.state)) return false;
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => hasWord(board, word));
}

const collator = new Intl.Collator("en", { numeric: true });

/** Boards in the order of a column, `-` before its name for the other way; serials decide ties. */
export function sorted(boards: readonly Board[], by: string): Board[] {
  const descending = by.startsWith("-");
  const column = descending ? by.slice(1) : by;
  const keyed = boards.map((board) => ({
    board,
    // The age grows as the time since when gets less.
    number: column === "age" ? -board.report.since : 0,
    text: column === "age" ? "" : cell(board, column),
  }));
  keyed.sort((a, b) => {
    let order = a.number - b.number;
    if (order === 0 && a.text !== b.text) {
      // What is empty comes last, whichever way.
      if (a.text === "") return 1;
      if (b.text === "") return -1;
      order = collator.compare(a.text, b.text);
    }
    if (order !== 0) return descending ? -order : order;
    const [first, second] = [a.board.report.serial, b.board.report.serial];
    return first < second ? -1 : first > second ? 1 : 0;
  });
  return keyed.map(({ board }) => board);
}

/** Rows of a long list that have to be in the page: those that can be seen, and a few beside. */
export function visibleRows(
  total: number,
  rowHeight: number,
  scrolled: number,
  height: number,
  beside = 8,
): { first: number; last: number } {
  const first = Math.max(0, Math.floor(scrolled / rowHeight) - beside);
  const last = Math.min(total, Math.ceil((scrolled + height) / rowHeight) + beside);
  return { first: Math.min(first, total), last: Math.max(last, Math.min(first, total)) };
}
