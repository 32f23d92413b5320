/** Times that count on by themselves. The rest of a view need not be drawn for that. */

import { farmTime, tick } from "../clock";
import { clockTime, duration } from "../format";

/** How long ago a time of the farm's is. */
export function Age({ since }: { since: number }) {
  const now = farmTime(tick.value);
  return (
    <time dateTime={new Date(since).toISOString()} title={`since ${clockTime(since, now)}`}>
      {duration(now - since)}
    </time>
  );
}

/** How long it is until a time of the farm's. */
export function Remaining({ until }: { until: number }) {
  const now = farmTime(tick.value);
  const left = until - now;
  return (
    <time
      class={left < 60_000 ? "soon" : undefined}
      dateTime={new Date(until).toISOString()}
      title={`until ${clockTime(until, now)}`}
    >
      {left > 0 ? duration(left) : "over"}
    </time>
  );
}

export function At({ at }: { at: number }) {
  return <time dateTime={new Date(at).toISOString()}>{clockTime(at, farmTime(tick.value))}</time>;
}
