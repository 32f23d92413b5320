/** What one's own boards measure: progress, values as a histogram and over time, boards compared. */

import { useEffect, useMemo } from "preact/hooks";
import * as t from "../bus/topics";
import { tick } from "../clock";
import { useLive, useNeeds, useSession } from "../components/context";
import { Plot, type Series } from "../components/plot";
import { Age, At } from "../components/times";
import { bestSoFar, histogram, outcomeRate, type Point, perBoard } from "../farm/experiment";
import type { Asked } from "../farm/queue_status";
import type { FarmState } from "../farm/state";
import { count, duration, figure, percent } from "../format";
import { link, route, setParams } from "../route";

const NEEDS = [[t.RESERVATION]] as const;

/** Failures that are listed. */
const MOST_LISTED = 20;

export function ExperimentView() {
  const session = useSession();
  useNeeds(NEEDS);
  const version = session.experimentChanged.value;
  const { params } = route.value;
  const { experiment } = session;
  const metric = params.get("metric") || experiment.metrics[0] || "";
  const highest = params.get("best") !== "lowest";
  const only = params.get("reservation") ?? "";
  const points = useMemo(
    () =>
      experiment.points
        .filter((p) => metric in p.values && (only === "" || p.reservation === only))
        .sort((a, b) => a.at - b.at),
    [experiment, metric, only, version],
  );
  const reservations = [...new Set(experiment.points.map((p) => p.reservation))];
  return (
    <div class="experiment">
      <Progress />
      {experiment.metrics.length > 0 && (
        <div class="tools">
          <label>
            Value{" "}
            <select
              value={metric}
              onChange={(event) => setParams({ metric: event.currentTarget.value })}
            >
              {experiment.metrics.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <label>
            Best is{" "}
            <select
              value={highest ? "highest" : "lowest"}
              onChange={(event) => setParams({ best: event.currentTarget.value })}
            >
              <option>highest</option>
              <option>lowest</option>
            </select>
          </label>
          <label>
            Reservation{" "}
            <select
              value={only}
              onChange={(event) => setParams({ reservation: event.currentTarget.value })}
            >
              <option value="">all</option>
              {reservations.map((id) => (
                <option key={id}>{id}</option>
              ))}
            </select>
          </label>
        </div>
      )}
      {points.length > 0 ? (
        <Values points={points} metric={metric} highest={highest} />
      ) : (
        <p class="empty">Results show here as your boards measure, from when you signed in here.</p>
      )}
      <Failures />
    </div>
  );
}

/** What holds boards of mine, by worker: whom to ask what waits there. */
function asked(state: FarmState, user: string): Asked[] {
  const found: Asked[] = [];
  for (const { id, user: holder, state: phase, devices } of state.reservations.values()) {
    if (holder !== user || phase !== "active") continue;
    const serving = devices.filter((each) => each.state === "serving");
    for (const worker of new Set(serving.map((each) => each.worker))) {
      const serials = serving.filter((each) => each.worker === worker).map((each) => each.serial);
      found.push({ worker, reservation: id, serials });
    }
  }
  return found;
}

function Progress() {
  const session = useSession();
  const live = useLive();
  session.read("reservations");
  useEffect(() => {
    if (!live) return;
    return session.statuses.follow(() => asked(session.state, session.user));
  }, [session, live]);
  const { experiment } = session;
  const statuses = [...session.statuses.value.value.values()];
  const waiting = statuses.reduce(
    (sum, { queued, measuring }) => sum + queued + (measuring === null ? 0 : 1),
    0,
  );
  const times = [...experiment.points, ...experiment.failures].map(({ at }) => at).sort(number);
  const rate = outcomeRate(times, Math.max(tick.value, times.at(-1) ?? 0));
  const done = experiment.results + experiment.failed;
  const share = done + waiting === 0 ? 0 : done / (done + waiting);
  return (
    <section aria-label="Progress">
      <dl class="figures">
        <Figure name="results" value={figure(experiment.results)} />
        <Figure name="failures" value={figure(experiment.failed)} />
        <Figure name="a second" value={figure(rate)} />
        <Figure name="on the boards" value={figure(waiting)} />
        <Figure
          name="done with those in"
          value={rate && waiting > 0 ? duration((waiting / rate) * 1000) : "–"}
        />
      </dl>
      <progress
        value={share}
        aria-label="Evaluations seen that have ended, of those and the ones on the boards"
      />
      <p class="dim">
        {percent(share)} of what this page knows of: what your program has not sent yet is not
        counted.
        {experiment.missed > 0 &&
          ` ${count(experiment.missed, "event")} came while this page was not connected: your program has them.`}
      </p>
    </section>
  );
}

function number(a: number, b: number): number {
  return a - b;
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong>
      </dd>
    </div>
  );
}

interface ValuesProps {
  points: readonly Point[];
  metric: string;
  highest: boolean;
}

const OVER_TIME: readonly Series[] = [
  { label: "results", as: "points" },
  { label: "best so far", as: "line" },
];
const BARS: readonly Series[] = [{ label: "how often", as: "bars" }];

function Values({ points, metric, highest }: ValuesProps) {
  const values = useMemo(() => points.map((p) => p.values[metric] ?? 0), [points, metric]);
  const overTime = useMemo<[number[], number[], number[]]>(
    () => [points.map((p) => p.at / 1000), values, bestSoFar(values, highest)],
    [points, values, highest],
  );
  const bins = useMemo(() => histogram(values), [values]);
  const bars = useMemo<[number[], (number | null)[]]>(
    () => [bins.edges, [...bins.counts, null]],
    [bins],
  );
  const best = points.reduce((a, b) => {
    const [first, second] = [a.values[metric] ?? 0, b.values[metric] ?? 0];
    return (highest ? second > first : second < first) ? b : a;
  });
  return (
    <>
      <p class="best">
        Best so far: <strong>{figure(best.values[metric])}</strong> {metric}, {best.bitstream} on{" "}
        <a href={link("board", best.serial)}>{best.serial}</a>, <Age since={best.at} /> ago.
      </p>
      <div class="plots">
        <section aria-labelledby="time-title">
          <h2 id="time-title">Over time</h2>
          <Plot
            label={`${metric} of ${points.length} results over time, best ${figure(best.values[metric])}`}
            data={overTime}
            series={OVER_TIME}
            time={true}
          />
        </section>
        <section aria-labelledby="histogram-title">
          <h2 id="histogram-title">How often</h2>
          <Plot
            label={`How often each ${metric} was measured, in ${bins.counts.length} bins`}
            data={bars}
            series={BARS}
            time={false}
          />
        </section>
      </div>
      <Comparison points={points} metric={metric} />
    </>
  );
}

function Comparison({ points, metric }: { points: readonly Point[]; metric: string }) {
  const session = useSession();
  const boards = perBoard(points, session.experiment.failures, metric);
  const low = Math.min(...boards.map((each) => each.lowest).filter(Number.isFinite));
  const high = Math.max(...boards.map((each) => each.highest).filter(Number.isFinite));
  const at = (value: number): string =>
    `${high > low && Number.isFinite(value) ? ((value - low) / (high - low)) * 100 : 50}%`;
  return (
    <section aria-labelledby="boards-title">
      <h2 id="boards-title">Boards compared</h2>
      <div class="scrolls">
        <table>
          <thead>
            <tr>
              <th scope="col">board</th>
              <th scope="col" class="number">
                n
              </th>
              <th scope="col" class="number">
                failures
              </th>
              <th scope="col" class="number">
                mean
              </th>
              <th scope="col" class="number">
                ± sd
              </th>
              <th scope="col" class="number">
                lowest
              </th>
              <th scope="col" class="number">
                highest
              </th>
              <th scope="col">range</th>
            </tr>
          </thead>
          <tbody>
            {boards.map((each) => (
              <tr key={each.serial}>
                <th scope="row">
                  <a href={link("board", each.serial)}>{each.serial}</a>
                </th>
                <td class="number">{each.count}</td>
                <td class="number">{each.failures}</td>
                <td class="number">{figure(each.mean)}</td>
                <td class="number">{figure(each.deviation)}</td>
                <td class="number">{figure(each.lowest)}</td>
                <td class="number">{figure(each.highest)}</td>
                <td>
                  <span class="range" aria-hidden="true">
                    <span
                      class="span"
                      style={{ left: at(each.lowest), right: `calc(100% - ${at(each.highest)})` }}
                    />
                    <span class="mean" style={{ left: at(each.mean) }} />
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Failures() {
  const session = useSession();
  const { failures } = session.experiment;
  if (failures.length === 0) return null;
  return (
    <section aria-labelledby="failures-title">
      <h2 id="failures-title">
        Failures <span class="dim">{failures.length}</span>
      </h2>
      <ol class="log">
        {failures
          .slice(-MOST_LISTED)
          .reverse()
          .map((each) => (
            <li key={`${each.evaluation}@${each.serial}`}>
              <At at={each.at} /> {each.bitstream}
              {each.serial && (
                <>
                  {" "}
                  on <a href={link("board", each.serial)}>{each.serial}</a>
                </>
              )}
              : {each.message} <span class="dim">{each.code}</span>
            </li>
          ))}
      </ol>
    </section>
  );
}
