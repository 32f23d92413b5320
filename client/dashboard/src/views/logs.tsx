/** What components log, for administrators: the latest lines, and those that come while one looks. */

import { useState } from "preact/hooks";
import * as t from "../bus/topics";
import { tick } from "../clock";
import { useMay, useNeeds, useSession } from "../components/context";
import { LogList } from "../components/log_list";
import { type LogLine, matchesLine, rank } from "../farm/logs";
import { link, route, setParams } from "../route";

export function LogsView() {
  const session = useSession();
  const admin = useMay("admin");
  useNeeds(admin ? [[t.LOG_RECENT], [t.LOG]] : [], String(admin));
  session.read("logs");
  const { params } = route.value;
  const text = params.get("q") ?? "";
  const level = params.get("level") ?? "";
  const component = params.get("of") ?? "";
  const [held, setHeld] = useState<LogLine[] | null>(null);
  if (!admin) {
    return (
      <p class="empty">
        Administrators read all logs. What is logged about a board that you hold stands on its own
        page.
      </p>
    );
  }
  const all = held ?? session.state.logs.latest(component);
  const shown = all.filter(
    (line) => rank(line.record.level) >= rank(level) && matchesLine(line, text),
  );
  const change = (changes: Record<string, string>): void => {
    setHeld(null);
    setParams(changes);
  };
  return (
    <div class="activity">
      <div class="tools">
        <label class="search">
          <span class="hidden">Search the logs</span>
          <input
            type="search"
            placeholder="Search: serial, user, words …"
            value={text}
            onInput={(event) => setParams({ q: event.currentTarget.value })}
          />
        </label>
        <label>
          <span class="hidden">From which level on</span>
          <select
            value={level}
            onChange={(event) => setParams({ level: event.currentTarget.value })}
          >
            <option value="">all levels</option>
            <option value="warning">warnings and worse</option>
            <option value="error">errors</option>
          </select>
        </label>
        <label>
          <span class="hidden">Of which component</span>
          <select value={component} onChange={(event) => change({ of: event.currentTarget.value })}>
            <option value="">all components</option>
            {session.state.logs.names.map((name) => (
              <option key={name} value={name}>
                {name.replace("/", " ")}
              </option>
            ))}
          </select>
        </label>
        <button
          type="button"
          aria-pressed={held !== null}
          onClick={() => setHeld(held === null ? all : null)}
        >
          {held === null ? "Pause" : "Go on"}
        </button>
        <a href={link("logs", "", { q: text, level, of: component })} class="dim">
          Link to this
        </a>
      </div>
      <Flood />
      <LogList lines={shown} empty="No such line." />
    </div>
  );
}

/** That lines are not shown as they come, because of whom. */
function Flood() {
  const flood = useSession().logFlood.value;
  if (flood === null || flood.until < tick.value) return null;
  return (
    <p class="failure" role="status">
      The log of {flood.of} comes in a flood. For a minute nothing is shown as it comes, but the
      latest lines of each component every 5 s.
    </p>
  );
}
