/** The farm at a glance. */

import type { ComponentChildren } from "preact";
import * as t from "../bus/topics";
import { tick } from "../clock";
import { useNeeds, useSession } from "../components/context";
import { FarmHistory } from "../components/farm_history";
import { Shape, StateMark, toneOf } from "../components/marks";
import { Age, Remaining } from "../components/times";
import { WorkerTable } from "../components/workers";
import { addRates, failureShare, rateOf } from "../farm/rates";
import { byState, holders, troubled } from "../farm/summary";
import { count, duration, figure, percent } from "../format";
import { link } from "../route";

const NEEDS = [
  [t.DEVICE],
  [t.WORKER_STATE],
  [t.WORKER_HEARTBEAT],
  [t.RESERVATION],
  [t.CLAIM],
  [t.CONTROL_THROUGHPUT],
] as const;

/** Rows of what needs somebody; the rest is one step away. */
const MOST_TROUBLED = 8;

export function FarmView() {
  useNeeds(NEEDS);
  return (
    <div class="farm">
      <Figures />
      <BoardStates />
      <FarmHistory />
      <Holders />
      <Trouble />
      <Controls />
      <section aria-labelledby="workers-title" class="wide">
        <h2 id="workers-title">Workers</h2>
        <WorkerTable />
      </section>
    </div>
  );
}

function Figure({
  name,
  children,
  of,
}: {
  name: string;
  children: ComponentChildren;
  of?: string;
}) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>
        <strong>{children}</strong>
        {of && <span class="dim"> {of}</span>}
      </dd>
    </div>
  );
}

function Figures() {
  const session = useSession();
  session.read("workers", "boards", "reservations");
  const { state } = session;
  const workers = [...state.workers.values()];
  const rate = addRates(workers.map((worker) => rateOf(worker.samples)));
  const loads = workers.flatMap(({ heartbeat }) => (heartbeat === null ? [] : [heartbeat.load]));
  const waiting = [...state.reservations.values()].filter((each) => each.state === "queued").length;
  const queued = loads.reduce((sum, load) => sum + load.queued, 0);
  const serving = [...state.boards.values()].filter((b) => b.report.state === "serving").length;
  return (
    <dl class="figures wide" aria-label="Figures">
      <Figure name="Boards in use" of={`of ${state.boards.size}`}>
        {serving}
      </Figure>
      <Figure name="Results a second" of="over 30 s">
        {figure(rate?.results)}
      </Figure>
      <Figure name="Evaluations that fail" of="over 30 s">
        {percent(failureShare(rate))}
      </Figure>
      <Figure name="Evaluations under way">{figure(queued)}</Figure>
      <Figure name="Reservations" of={waiting > 0 ? `and ${waiting} waiting` : "none waiting"}>
        {state.reservations.size - waiting}
      </Figure>
    </dl>
  );
}

function BoardStates() {
  const session = useSession();
  session.read("boards");
  const states = byState(session.state.boards.values());
  const total = session.state.boards.size;
  return (
    <section aria-labelledby="states-title" class="wide">
      <h2 id="states-title">Boards by state</h2>
      <div class="bar" aria-hidden="true">
        {states.map(([state, number]) => (
          <span key={state} class={toneOf(state)} style={{ flexGrow: number }} />
        ))}
      </div>
      <ul class="states">
        {states.map(([state, number]) => (
          <li key={state}>
            <a href={link("boards", "", { state })}>
              <Shape tone={toneOf(state)} />
              <strong>{number}</strong> {state}
            </a>
          </li>
        ))}
        {total === 0 && <li class="empty">No worker has reported a board yet.</li>}
      </ul>
    </section>
  );
}

function Holders() {
  const session = useSession();
  session.read("reservations");
  const found = holders(session.state);
  return (
    <section aria-labelledby="holders-title">
      <h2 id="holders-title">Who holds boards</h2>
      {found.length === 0 ? (
        <p class="empty">Nobody: all boards are free.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">user</th>
              <th scope="col" class="number">
                boards
              </th>
              <th scope="col">for</th>
              <th scope="col">next end</th>
            </tr>
          </thead>
          <tbody>
            {found.map((each) => (
              <tr key={each.user}>
                <th scope="row">
                  <a href={link("boards", "", { q: `holder=${each.user.toLowerCase()}` })}>
                    {each.user}
                  </a>
                </th>
                <td class="number">{each.boards}</td>
                <td>
                  {each.kinds.join(", ")}
                  {each.queued > 0 && <span class="dim"> {each.queued} waiting</span>}
                </td>
                <td>{each.nextEnd === null ? "–" : <Remaining until={each.nextEnd} />}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Trouble() {
  const session = useSession();
  session.read("boards", "claims", "unreadable");
  const { boards, claims, unreadable } = session.state;
  const bad = troubled(boards.values());
  return (
    <section aria-labelledby="trouble-title">
      <h2 id="trouble-title">What needs somebody</h2>
      {[...claims.values()].map((claim) => (
        <p key={claim.serial} class="alarm-line">
          <StateMark state="broken" label={`${claim.serial} is claimed by several workers`} />:{" "}
          {[claim.worker, ...claim.claimed_by].join(", ")}. {claim.remedy}
        </p>
      ))}
      {bad.length + claims.size + unreadable.size === 0 && <p class="empty">Nothing.</p>}
      <ul class="troubled">
        {bad.slice(0, MOST_TROUBLED).map(({ worker, report }) => (
          <li key={`${worker}/${report.serial}`}>
            <StateMark state={report.state} />{" "}
            <a href={link("board", report.serial)}>{report.serial}</a>{" "}
            <span class="dim">
              for <Age since={report.since} />
            </span>
            <span class="reason">{report.reason}</span>
          </li>
        ))}
      </ul>
      {bad.length > MOST_TROUBLED && (
        <a href={link("boards", "", { state: "broken,quarantined,absent", sort: "-age" })}>
          {count(bad.length - MOST_TROUBLED, "more board")}
        </a>
      )}
      {[...unreadable.values()].slice(0, 3).map((each) => (
        <p key={each.topic} class="dim">
          {count(each.count, "message")} on <code>{each.topic}</code> can't be read: {each.why}
        </p>
      ))}
    </section>
  );
}

function Controls() {
  const session = useSession();
  session.read("control");
  const { controls, heartbeat, heartbeatAt } = session.state;
  const now = tick.value;
  return (
    <section aria-labelledby="control-title">
      <h2 id="control-title">Control</h2>
      {controls.size === 0 && <p class="empty">None has said that it is there.</p>}
      <ul class="troubled">
        {[...controls].map(([id, control]) => (
          <li key={id}>
            <StateMark state={control.state} /> <strong>{id}</strong>{" "}
            <span class="dim">
              {control.leading ? "leads" : "stands by"}
              {control.version && `, version ${control.version}`}
            </span>
          </li>
        ))}
      </ul>
      {heartbeat !== null && (
        <p class="dim">
          Last heartbeat {duration(now - heartbeatAt)} ago, one each{" "}
          {duration(heartbeat.interval * 1000)}.
        </p>
      )}
    </section>
  );
}
