/** What happens: control's history, older on request, and what boards do while one looks. */

import { useState } from "preact/hooks";
import { History } from "../bus/messages";
import { said } from "../bus/requests";
import * as t from "../bus/topics";
import { ActivityList } from "../components/activity_list";
import { useLive, useMay, useNeeds, useSession } from "../components/context";
import { type Activity, activities, matchesActivity } from "../farm/activity";
import { mergeHistory } from "../farm/state";
import { link, route, setParams } from "../route";

const NEEDS = [[t.CONTROL_HISTORY], [t.WORKER_EVENT]] as const;

/** Rows in the page; the filter reaches the others. */
const MOST_SHOWN = 400;

export function ActivityView() {
  useNeeds(NEEDS);
  const session = useSession();
  session.read("history", "happenings");
  const { params } = route.value;
  const text = params.get("q") ?? "";
  const kind = params.get("kind") ?? "";
  const [held, setHeld] = useState<Activity[] | null>(null);
  const all = held ?? activities(session.state.history, session.state.happenings, kind);
  const shown = all.filter((each) => matchesActivity(each, text));
  const newer = held === null ? 0 : newerThan(held, session.state.history, kind, session);
  return (
    <div class="activity">
      <div class="tools">
        <label class="search">
          <span class="hidden">Search what happened</span>
          <input
            type="search"
            placeholder="Search: serial, user, event, reason …"
            value={text}
            onInput={(event) => setParams({ q: event.currentTarget.value })}
          />
        </label>
        <label>
          <span class="hidden">Of what</span>
          <select
            value={kind}
            onChange={(event) => {
              setHeld(null);
              setParams({ kind: event.currentTarget.value });
            }}
          >
            <option value="">all that happens</option>
            <option value="people">reservations and orders</option>
            <option value="boards">what boards do</option>
          </select>
        </label>
        <button
          type="button"
          aria-pressed={held !== null}
          onClick={() => setHeld(held === null ? all : null)}
        >
          {held === null ? "Pause" : newer > 0 ? `Go on (${newer} newer)` : "Go on"}
        </button>
        <a href={link("activity", "", { q: text, kind })} class="dim">
          Link to this
        </a>
      </div>
      <ActivityList activities={shown.slice(0, MOST_SHOWN)} />
      {shown.length > MOST_SHOWN && (
        <p class="dim">And {shown.length - MOST_SHOWN} older ones: search to find them.</p>
      )}
      {kind !== "boards" && <Older />}
    </div>
  );
}

function newerThan(
  held: readonly Activity[],
  history: Parameters<typeof activities>[0],
  kind: string,
  session: ReturnType<typeof useSession>,
): number {
  const latest = held[0]?.at ?? 0;
  return activities(history, session.state.happenings, kind).filter((each) => each.at > latest)
    .length;
}

/** Further back than what control retains for everybody: users may ask for it. */
function Older() {
  const session = useSession();
  const user = useMay("user");
  const admin = useMay("admin");
  const live = useLive();
  const [state, setState] = useState<"" | "asking" | "all">("");
  const [failure, setFailure] = useState("");
  if (!(user || admin)) return null;
  const load = async (): Promise<void> => {
    setState("asking");
    setFailure("");
    const oldest = session.state.history.at(-1)?.number;
    const args = { limit: 200, ...(oldest === undefined ? {} : { before: oldest }) };
    try {
      const { entries } = await session.requests.ask(
        t.OPERATION,
        { operation: "history" },
        "control",
        args,
        History,
      );
      session.change("history", (farm) => {
        farm.history = mergeHistory(farm.history, entries);
      });
      setState(entries.length === 0 ? "all" : "");
    } catch (error) {
      setFailure(said(error));
      setState("");
    }
  };
  return (
    <p class="older">
      <button type="button" disabled={!live || state !== ""} onClick={() => void load()}>
        {state === "asking" ? "Asking control…" : state === "all" ? "That is all" : "Older"}
      </button>{" "}
      <span class="failure" role="alert">
        {failure}
      </span>
    </p>
  );
}
