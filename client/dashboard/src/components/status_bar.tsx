/** The line that is always there: which farm, whether it is live, who is signed in, what was done. */

import { farmTime, tick } from "../clock";
import { clockTime, duration } from "../format";
import type { Health } from "../health";
import { signOut } from "../signed_in";
import { useSession } from "./context";
import { done } from "./dialog";
import { Shape, toneOf } from "./marks";
import { Remaining } from "./times";

export function StatusBar({ health }: { health: Health }) {
  const session = useSession();
  return (
    <header class={health.live ? "" : "alarm"}>
      <h1>{session.farm.farm}</h1>
      <HealthMark health={health} />
      <span class="told" role="status">
        {health.live ? <Done otherwise={health.detail} /> : health.detail}
      </span>
      <span class="who">
        {session.user}
        <small>{roleText(session.wall ? "wall" : session.role.value)}</small>
        {session.account.value?.invited && (
          <small class="soon">an invitation: make it an account with icebus login</small>
        )}
        <Ending expires={session.account.value?.expires ?? null} />
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

/** What was done last, for a minute; then what else there is to say. */
function Done({ otherwise }: { otherwise: string }) {
  const last = done.value;
  const recent = last !== null && tick.value - last.at < 60_000;
  return <span>{recent ? last.text : otherwise}</span>;
}

/** Milliseconds before an account ends in which its owner is told. */
const TOLD_BEFORE = 7 * 86_400_000;

function Ending({ expires }: { expires: number | null }) {
  if (expires === null || expires - farmTime(tick.value) > TOLD_BEFORE) return null;
  return (
    <small class="soon">
      account ends in <Remaining until={expires} />
    </small>
  );
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
