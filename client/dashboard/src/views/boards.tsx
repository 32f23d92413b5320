/** All boards: chosen, sorted, and as many rows in the page as can be seen. */

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import * as t from "../bus/topics";
import { tick } from "../clock";
import { ColumnChooser, useColumns } from "../components/columns";
import { useNeeds, useSession } from "../components/context";
import { StateMark } from "../components/marks";
import { Age } from "../components/times";
import {
  cell,
  columnWidth,
  type Filter,
  labelsOf,
  matchesFilter,
  sorted,
  title,
  visibleRows,
} from "../farm/boards_list";
import { type Presence, workerPresence } from "../farm/liveness";
import { type Board, boardKey } from "../farm/state";
import { STATES } from "../farm/summary";
import { link, route, setParams } from "../route";

const NEEDS = [[t.DEVICE], [t.WORKER_STATE], [t.WORKER_HEARTBEAT]] as const;

export function BoardsView() {
  useNeeds(NEEDS);
  const session = useSession();
  session.read("boards");
  const { params } = route.value;
  const filter: Filter = {
    text: params.get("q") ?? "",
    states: (params.get("state") ?? "").split(",").filter(Boolean),
  };
  const sort = params.get("sort") ?? "serial";
  const all = session.state.boards;
  const shown = useOrder(all, filter, sort);
  const labels = useLabels(all);
  const [columns, setColumns] = useColumns();
  return (
    <div class="boards">
      <div class="tools">
        <label class="search">
          <span class="hidden">Search boards</span>
          <input
            type="search"
            placeholder="Search: serial, holder=alice, rack=b …"
            value={filter.text}
            onInput={(event) => setParams({ q: event.currentTarget.value })}
          />
        </label>
        <StateChoice chosen={filter.states} />
        <ColumnChooser columns={columns} labels={labels} onChange={setColumns} />
        <span class="dim count" role="status">
          {shown.length === all.size ? `${all.size} boards` : `${shown.length} of ${all.size}`}
        </span>
      </div>
      <BoardTable boards={shown} columns={columns} sort={sort} />
    </div>
  );
}

type Boards = ReadonlyMap<string, Board>;

/**
 * The boards that are listed, in their order. What is said of them is of now; who is listed, and
 * where, is renewed once a second at most: a list that jumps can't be read.
 */
function useOrder(all: Boards, filter: Filter, sort: string): Board[] {
  const states = filter.states.join(",");
  const second = tick.value;
  const order = useMemo(() => {
    const chosen = [...all.values()].filter((board) => matchesFilter(board, filter));
    return sorted(chosen, sort).map(({ worker, report }) => boardKey(worker, report.serial));
  }, [all.size, filter.text, states, sort, second]);
  return order.flatMap((key) => all.get(key) ?? []);
}

function useLabels(all: Boards): string[] {
  const second = tick.value;
  return useMemo(() => labelsOf(all.values()), [all.size, second]);
}

function StateChoice({ chosen }: { chosen: readonly string[] }) {
  return (
    <label>
      <span class="hidden">State</span>
      <select
        value={chosen.join(",")}
        onChange={(event) => setParams({ state: event.currentTarget.value })}
      >
        <option value="">every state</option>
        {chosen.length > 1 && <option value={chosen.join(",")}>{chosen.join(", ")}</option>}
        {STATES.map((state) => (
          <option key={state} value={state}>
            {state}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Pixels of a row until it has been measured. */
const ROW = 34;

/** Milliseconds that a row is marked after its board has changed. */
const MARKED = 1500;

interface TableProps {
  boards: readonly Board[];
  columns: readonly string[];
  sort: string;
}

function BoardTable({ boards, columns, sort }: TableProps) {
  const scroller = useRef<HTMLElement>(null);
  const [view, setView] = useState({ scrolled: 0, height: 800, row: ROW });
  useLayoutEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const measure = (): void => {
      const row = element.querySelector("tbody tr.board")?.getBoundingClientRect().height || ROW;
      setView({ scrolled: element.scrollTop, height: element.clientHeight, row });
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, []);
  const presences = usePresences();
  const now = tick.value;
  const width = columns.reduce((sum, column) => sum + columnWidth(column), 0);
  const { first, last } = visibleRows(boards.length, view.row, view.scrolled, view.height);
  const filler = (rows: number) =>
    rows > 0 && (
      // biome-ignore lint/a11y/noAriaHiddenOnFocusable: it is a row of a table, and takes no focus.
      <tr aria-hidden="true" class="filler" style={{ height: `${rows * view.row}px` }}>
        <td colSpan={columns.length} />
      </tr>
    );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard.
    <section class="scroller" ref={scroller} tabIndex={0} aria-label="Boards">
      <table aria-rowcount={boards.length + 1} style={{ minWidth: `${width}rem` }}>
        <colgroup>
          {columns.map((column) => (
            <col key={column} style={{ width: `${(columnWidth(column) / width) * 100}%` }} />
          ))}
        </colgroup>
        <thead>
          <tr aria-rowindex={1}>
            {columns.map((column) => (
              <Heading key={column} column={column} sort={sort} />
            ))}
          </tr>
        </thead>
        <tbody>
          {filler(first)}
          {boards.slice(first, last).map((board, index) => (
            <Row
              key={`${board.worker}/${board.report.serial}`}
              board={board}
              columns={columns}
              index={first + index + 2}
              presence={presences.get(board.worker) ?? "unknown"}
              changed={now - board.changedAt < MARKED}
            />
          ))}
          {filler(boards.length - last)}
        </tbody>
      </table>
      {boards.length === 0 && <p class="empty">No board is like that.</p>}
    </section>
  );
}

/** How each worker is, computed once for all rows. */
function usePresences(): Map<string, Presence> {
  const session = useSession();
  session.read("workers");
  const now = tick.value;
  const heardSince = session.heardSince ?? now;
  const { state } = session;
  return new Map(
    [...state.workers].map(([id, worker]) => [id, workerPresence(worker, state, heardSince, now)]),
  );
}

function Heading({ column, sort }: { column: string; sort: string }) {
  const ascending = sort === column;
  const descending = sort === `-${column}`;
  const order = ascending ? "ascending" : descending ? "descending" : undefined;
  return (
    <th scope="col" aria-sort={order} class={`column-${column}`}>
      <button type="button" onClick={() => setParams({ sort: ascending ? `-${column}` : column })}>
        {title(column)}
        <span aria-hidden="true">{ascending ? " ↑" : descending ? " ↓" : ""}</span>
      </button>
    </th>
  );
}

interface RowProps {
  board: Board;
  columns: readonly string[];
  index: number;
  presence: Presence;
  changed: boolean;
}

/** Drawn anew only when its board has changed: a report is another object then. */
function Row({ board, columns, index, presence, changed }: RowProps) {
  return useMemo(() => {
    const away = presence !== "fresh" && presence !== "starting";
    return (
      <tr
        aria-rowindex={index}
        class={`board${away ? " away" : ""}${changed ? " changed" : ""}`}
        title={away ? `its worker is ${presence}: this is what it said last` : undefined}
      >
        {columns.map((column) => (
          <Cell key={column} board={board} column={column} />
        ))}
      </tr>
    );
  }, [board, columns, index, presence, changed]);
}

function Cell({ board, column }: { board: Board; column: string }) {
  const { report } = board;
  switch (column) {
    case "serial":
      return (
        <th scope="row">
          <a href={link("board", report.serial)}>{report.serial}</a>
        </th>
      );
    case "state":
      return (
        <td>
          <StateMark state={report.state} />
          {report.progress !== null && (
            <progress value={report.progress} aria-label={`${report.state} progress`} />
          )}
        </td>
      );
    case "age":
      return (
        <td class="age">
          <Age since={report.since} />
        </td>
      );
    case "reason":
      return (
        <td class="reason-cell" title={report.reason}>
          {report.reason}
        </td>
      );
    default:
      return <td>{cell(board, column)}</td>;
  }
}
