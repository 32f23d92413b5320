/** The workers of a farm, with what administrators can have them do. */

import { tick } from "../clock";
import { Actions } from "../farm/actions";
import { workerPresence } from "../farm/liveness";
import { failureShare, rateOf } from "../farm/rates";
import type { Worker } from "../farm/state";
import { duration, figure, percent } from "../format";
import { link } from "../route";
import { useLive, useMay, useSession } from "./context";
import { ask } from "./dialog";
import { StateMark } from "./marks";

export function WorkerTable() {
  const session = useSession();
  session.read("workers", "boards");
  const admin = useMay("admin");
  const workers = [...session.state.workers.values()]
    .filter((worker) => worker.state !== null)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  if (workers.length === 0) return <p class="empty">No worker has been heard of.</p>;
  return (
    <div class="scrolls">
      <table>
        <thead>
          <tr>
            <th scope="col">worker</th>
            <th scope="col">is</th>
            <th scope="col" class="number">
              boards
            </th>
            <th scope="col" class="number">
              serving
            </th>
            <th scope="col" class="number">
              under way
            </th>
            <th scope="col" class="number">
              results/s
            </th>
            <th scope="col" class="number">
              fail
            </th>
            <th scope="col">heard</th>
            {admin && (
              <th scope="col">
                <span class="hidden">actions</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {workers.map((worker) => (
            <Row key={worker.id} worker={worker} admin={admin} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ worker, admin }: { worker: Worker; admin: boolean }) {
  const session = useSession();
  const now = tick.value;
  const presence = workerPresence(worker, session.state, session.heardSince ?? now, now);
  const draining = worker.state?.draining ?? null;
  const load = worker.heartbeat?.load;
  const rate = rateOf(worker.samples);
  const away = presence !== "fresh" && presence !== "starting";
  return (
    <tr class={away ? "away" : ""}>
      <th scope="row">
        <a href={link("boards", "", { q: `worker=${worker.id.toLowerCase()}` })}>{worker.id}</a>
      </th>
      <td>
        <StateMark
          state={draining !== null && presence === "fresh" ? "draining" : presence}
          label={draining !== null && presence === "fresh" ? "draining" : word(presence)}
        />
        {draining !== null && <span class="reason">{draining}</span>}
      </td>
      <td class="number">{load?.devices ?? worker.state?.serials.length ?? 0}</td>
      <td class="number">{figure(load?.serving)}</td>
      <td class="number">{figure(load?.queued)}</td>
      <td class="number">{figure(rate?.results)}</td>
      <td class="number">{percent(failureShare(rate))}</td>
      <td>{worker.heardAt === 0 ? "never" : `${duration(now - worker.heardAt)} ago`}</td>
      {admin && (
        <td class="actions">
          <DrainButton worker={worker.id} draining={draining !== null} />
        </td>
      )}
    </tr>
  );
}

function word(presence: string): string {
  return presence === "fresh" ? "there" : presence;
}

function DrainButton({ worker, draining }: { worker: string; draining: boolean }) {
  const session = useSession();
  const live = useLive();
  const actions = new Actions(session.requests);
  const open = (): void =>
    ask({
      title: draining ? `Let ${worker} have reservations again?` : `Drain ${worker}?`,
      text: draining
        ? "Its boards can be reserved from now on."
        : "What is reserved there goes on; it gets no new reservations until you undo this.",
      confirm: draining ? "Undrain" : "Drain",
      reason: true,
      run: ({ reason }) => actions.onWorker(draining ? "undrain" : "drain", worker, reason),
    });
  return (
    <button type="button" onClick={open} disabled={!live}>
      {draining ? "Undrain" : "Drain"}
      <span class="hidden"> {worker}</span>
    </button>
  );
}
