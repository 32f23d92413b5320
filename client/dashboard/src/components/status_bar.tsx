/** The line that is always there: which farm, whether it is live, who is signed in, what was done. */

import { farmTime, tick } from "../clock";
import { clockTime, duration } from "../format";
import type { Health } from "../health";
import { signOut } from "../signed_in";
import { useSession } from "./context";
import { done } from "./dialog";
import { Shape, toneOf } from "./marks";

export function StatusBar({ health }: { health: Health }) {
  const session = useSession();
  return (
    <header class={health.live ? "" : "alarm"}>
      <h1>{session.farm.farm}</h1>
      <HealthMark health={health} />
      <span class="told" role="status">
        {health.live ? <Done /> : health.detail}
      </span>
      <span class="who">
        {session.user}
        <small>{roleText(session.wall ? "wall" : session.role.value)}</small>
      </span>
      {!session.wall && (
        <button type="button" class="quiet" onClick={signOut}>
          Sign out
        </button>
      )}
    </header>
  );
}

function HealthMark({ health }: { health: Health }) {
  const now = Math.max(tick.value, health.since ?? 0);
  // Said once when it changes: a screen reader need not hear the seconds.
  return (
    <span class="health">
      <Shape tone={toneOf(health.state)} />
      <strong role="status">{health.text}</strong>
      {health.since !== null && !health.live && (
        <span>
          since {clockTime(farmTime(health.since), farmTime(now))}{" "}
          <span class="dim">({duration(now - health.since)})</span>
        </span>
      )}
    </span>
  );
}

function Done() {
  const last = done.value;
  if (last === null) return null;
  const ago = Math.max(0, tick.value - last.at);
  return <span>{ago > 60_000 ? "" : last.text}</span>;
}

function roleText(role: string | null): string {
  switch (role) {
    case null:
      return "asking what you may do";
    case "wall":
      return "wall screen";
    case "admin":
      return "administrator";
    default:
      return role;
  }
}
