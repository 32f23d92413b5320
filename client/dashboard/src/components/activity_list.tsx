/** A list of what happened. */

import type { Activity } from "../farm/activity";
import { link } from "../route";
import { Shape, toneOf } from "./marks";
import { At } from "./times";

const TONES: Readonly<Record<string, string>> = {
  reserved: "serving",
  extended: "serving",
  device_failed: "broken",
  device_claimed: "broken",
  removed: "absent",
  retired: "absent",
  ended: "ended",
  released: "ended",
  queued: "queued",
  drained: "draining",
};

export function ActivityList({ activities }: { activities: readonly Activity[] }) {
  if (activities.length === 0) return <p class="empty">Nothing like that has happened.</p>;
  return (
    <ol class="happened">
      {activities.map((each) => (
        <li key={each.key}>
          <span class="when dim">
            <At at={each.at} />
          </span>
          <span class="what">
            <Shape tone={toneOf(TONES[each.what] ?? each.what)} />
            {each.what.replaceAll("_", " ")}
          </span>
          <span class="about">
            {each.serial && <a href={link("board", each.serial)}>{each.serial}</a>}{" "}
            {each.reservation && (
              <a class="dim" href={link("activity", "", { q: each.reservation })}>
                {each.reservation}
              </a>
            )}{" "}
            {by(each)} <span class="reason">{each.text}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}

function by({ actor, user, worker }: Activity): string {
  const parts = [];
  if (user !== "") parts.push(`of ${user}`);
  if (actor !== user && actor !== "" && actor !== worker) parts.push(`by ${actor}`);
  if (worker !== "") parts.push(`at ${worker}`);
  return parts.join(" ");
}
