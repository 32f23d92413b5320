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
            <Message text={record.message} serial={serial} />
          </li>
        ))}
      </ol>
      {lines.length > MOST_SHOWN && (
        <p class="dim">And {lines.length - MOST_SHOWN} older ones: search to find them.</p>
      )}
    </>
  );
}

/** What it says; the board that it is about is a link, at the end where it is not named. */
function Message({ text, serial }: { text: string; serial: string }) {
  if (serial === "") return <>{text}</>;
  const at = text.indexOf(serial);
  const [before, after] =
    at < 0 ? [`${text} `, ""] : [text.slice(0, at), text.slice(at + serial.length)];
  return (
    <>
      {before}
      <a href={link("board", serial)}>{serial}</a>
      {after}
    </>
  );
}
