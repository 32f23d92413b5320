/** Lines of logs, newest first. */

import { type LogLine, levelClass } from "../farm/logs";
import { link } from "../route";
import { At } from "./times";

/** Lines in the page; a filter reaches the others. */
const MOST_SHOWN = 300;

export function LogList({ lines, empty }: { lines: readonly LogLine[]; empty: string }) {
  if (lines.length === 0) return <p class="empty">{empty}</p>;
  return (
    <>
      <ol class="log">
        {lines.slice(0, MOST_SHOWN).map(({ key, role, id, serial, record }) => (
          <li key={key} class={levelClass(record.level)}>
            <At at={record.at} /> <span class="dim">{role === id ? role : `${role} ${id}`}</span>{" "}
            <span class="level">{levelClass(record.level)}</span>{" "}
            <span class="message">{record.message}</span>{" "}
            {serial !== "" && <a href={link("board", serial)}>{serial}</a>}
          </li>
        ))}
      </ol>
      {lines.length > MOST_SHOWN && (
        <p class="dim">And {lines.length - MOST_SHOWN} older ones: search to find them.</p>
      )}
    </>
  );
}
