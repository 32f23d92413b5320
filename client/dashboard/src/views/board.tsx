/** One board: what it is and does, its life, what it measured last, what is logged of it. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { type Device, History, type HistoryEntry } from "../bus/messages";
import { said } from "../bus/requests";
import * as t from "../bus/topics";
import { tick } from "../clock";
import { ActivityList } from "../components/activity_list";
import { useLive, useMay, useNeeds, useSession } from "../components/context";
import { DeviceActions } from "../components/device_actions";
import { LogList } from "../components/log_list";
import { StateMark } from "../components/marks";
import { Plot } from "../components/plot";
import { Age, Remaining } from "../components/times";
import { activities } from "../farm/activity";
import { workerPresence } from "../farm/liveness";
import { aboutBoard } from "../farm/logs";
import type { Board } from "../farm/state";
import { figure } from "../format";
import { link } from "../route";

/** Lines of the log that are shown. */
const MOST_LINES = 100;

/** Results that are plotted. */
const MOST_PLOTTED = 2000;

export function BoardView({ serial }: { serial: string }) {
  const session = useSession();
  const known = t.isId(serial);
  useNeeds(
    known
      ? [
          [t.DEVICE, { serial }],
          [t.WORKER_STATE],
          [t.WORKER_HEARTBEAT],
          [t.RESERVATION],
          [t.CLAIM, { serial }],
          [t.CONTROL_HISTORY],
          [t.WORKER_EVENT],
        ]
      : [],
    serial,
  );
  session.read("boards", "claims");
  const reported = [...session.state.boards.values()].filter(
    (each) => each.report.serial === serial,
  );
  const claim = session.state.claims.get(serial);
  const board = reported.find((each) => each.worker === claim?.worker) ?? reported[0];
  return (
    <div class="board">
      <p class="path">
        <a href={link("boards")}>Boards</a>
      </p>
      <h2 class="serial">{serial}</h2>
      {claim && (
        <p class="alarm-line">
          <StateMark state="broken" label="Claimed by several workers" />:{" "}
          {[claim.worker, ...claim.claimed_by].join(", ")}. {claim.remedy}
        </p>
      )}
      {board === undefined ? (
        <p class="empty">No worker reports a board of this serial.</p>
      ) : (
        <Present board={board} />
      )}
      <Measured serial={serial} />
      <Life serial={serial} />
      <Log serial={serial} worker={board?.worker ?? ""} />
    </div>
  );
}

function Present({ board }: { board: Board }) {
  const session = useSession();
  session.read("workers", "reservations");
  const { report, worker } = board;
  const now = tick.value;
  const presence = workerPresence(
    session.state.workers.get(worker),
    session.state,
    session.heardSince ?? now,
    now,
  );
  const away = presence !== "fresh" && presence !== "starting";
  const reservation = session.state.reservations.get(report.reservation ?? "");
  return (
    <section class={away ? "away" : ""} aria-label="Now">
      <div class="now">
        <StateMark state={report.state} />
        <span class="dim">
          for <Age since={report.since} />
        </span>
        {report.progress !== null && (
          <progress value={report.progress} aria-label={`${report.state} progress`} />
        )}
        {away && <span class="failure">its worker is {presence}: this is what it said last</span>}
      </div>
      {report.reason && <p>{report.reason}</p>}
      {report.retry !== null && (
        <p class="dim">
          It is looked at again in <Remaining until={report.retry} />.
        </p>
      )}
      <dl class="facts">
        <Fact name="holder" value={report.user ?? "nobody"} />
        {reservation && (
          <div>
            <dt>time left</dt>
            <dd>
              <Remaining until={reservation.until} />
            </dd>
          </div>
        )}
        <Fact name="kind" value={report.kind ?? "–"} />
        <Fact name="worker" value={worker} />
        <Fact name="port" value={report.port || "–"} />
        <Fact name="chip" value={report.chip || "not known"} />
        <Fact name="firmware" value={firmwareOf(report)} />
        {report.virtual && <Fact name="board" value="virtual" />}
        {Object.entries(report.labels).map(([name, value]) => (
          <Fact key={name} name={name} value={value} />
        ))}
        <CurrentEvaluation board={board} />
      </dl>
      <DeviceActions board={board} />
    </section>
  );
}

function firmwareOf({ firmware, firmware_version }: Device): string {
  return [firmware || "not known", firmware_version].filter(Boolean).join(" ");
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** What its holder may ask the board's worker: what it measures now, and how much waits. */
function CurrentEvaluation({ board }: { board: Board }) {
  const session = useSession();
  const live = useLive();
  const { serial, user, reservation } = board.report;
  const mine = useMay("user", user ?? "") && user === session.user && reservation !== null;
  const { worker } = board;
  useEffect(() => {
    if (!mine || !live || reservation === null) return;
    return session.statuses.follow(() => [{ worker, reservation, serials: [serial] }]);
  }, [session, mine, live, worker, reservation, serial]);
  const own = session.statuses.value.value.get(serial);
  if (!mine || own === undefined) return null;
  return (
    <>
      <Fact name="measuring now" value={own.measuring ?? "nothing"} />
      <Fact name="waiting here" value={String(own.queued)} />
    </>
  );
}

function Measured({ serial }: { serial: string }) {
  const session = useSession();
  const reports = session.state.boards;
  const mine = [...reports.values()].some(
    (each) => each.report.serial === serial && each.report.user === session.user,
  );
  const version = session.experimentChanged.value;
  const points = useMemo(
    () => session.experiment.points.filter((p) => p.serial === serial).slice(-MOST_PLOTTED),
    [session, serial, version],
  );
  const metric = session.experiment.metrics[0];
  const data = useMemo<[number[], (number | null)[]]>(
    () => [
      points.map(({ at }) => at / 1000),
      points.map(({ values }) => (metric === undefined ? null : (values[metric] ?? null))),
    ],
    [points, metric],
  );
  if (!mine && points.length === 0) return null;
  const last = points.at(-1);
  return (
    <section aria-labelledby="measured-title">
      <h3 id="measured-title">What it measured</h3>
      {last === undefined || metric === undefined ? (
        <p class="empty">Nothing since this page was opened.</p>
      ) : (
        <>
          <p>
            Last: <strong>{figure(last.values[metric])}</strong> {metric} of {last.bitstream},{" "}
            <Age since={last.at} /> ago.
          </p>
          <Plot
            label={`${points.length} results of ${serial}: ${metric} over time`}
            data={data}
            series={[{ label: metric, as: "points" }]}
            time={true}
          />
        </>
      )}
    </section>
  );
}

/** What happened to it: all of it for users, who may ask control; else what is retained for all. */
function Life({ serial }: { serial: string }) {
  const session = useSession();
  const live = useLive();
  const user = useMay("user");
  const admin = useMay("admin");
  const may = user || admin;
  const [asked, setAsked] = useState<readonly HistoryEntry[]>([]);
  const [failure, setFailure] = useState("");
  useEffect(() => {
    if (!live || !may || !t.isId(serial)) return;
    let here = true;
    session.requests
      .ask(t.OPERATION, { operation: "history" }, "control", { serial, limit: 50 }, History)
      .then(({ entries }) => here && setAsked(entries))
      .catch((error: unknown) => here && setFailure(said(error)));
    return () => {
      here = false;
    };
  }, [session, serial, live, may]);
  session.read("history", "happenings");
  const known = new Map(asked.map((entry) => [entry.number, entry]));
  for (const entry of session.state.history) {
    if (entry.serial === serial) known.set(entry.number, entry);
  }
  const happenings = session.state.happenings.filter((each) => each.event.serial === serial);
  return (
    <section aria-labelledby="life-title">
      <h3 id="life-title">Its life</h3>
      <ActivityList activities={activities([...known.values()], happenings).slice(0, 100)} />
      <p class="failure" role="alert">
        {failure}
      </p>
    </section>
  );
}

/** Lines about it: of all components for administrators, of its worker for who holds it. */
function Log({ serial, worker }: { serial: string; worker: string }) {
  const session = useSession();
  const admin = useMay("admin");
  const user = useMay("user") && !admin;
  const needs = admin
    ? [[t.LOG_RECENT] as const, [t.LOG] as const]
    : user && t.isId(serial)
      ? [[t.DEVICE_LOG, { user: session.user, serial }] as const]
      : [];
  useNeeds(needs, `${admin} ${user} ${serial}`);
  session.read("logs");
  const lines = session.state.logs.latest().filter((line) => aboutBoard(line, serial, worker));
  if (lines.length === 0) return null;
  return (
    <section aria-labelledby="log-title">
      <h3 id="log-title">Log</h3>
      <LogList lines={lines.slice(0, MOST_LINES)} empty="" />
    </section>
  );
}
