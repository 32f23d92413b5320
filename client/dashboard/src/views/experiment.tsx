/** What one's own boards measure: progress, values as a histogram and over time, boards compared. */

import { useMemo } from "preact/hooks";
import * as t from "../bus/topics";
import { useNeeds, useSession } from "../components/context";
import { busyReservations, ExperimentProgress } from "../components/experiment_progress";
import { Plot, type Series } from "../components/plot";
import { Age, At } from "../components/times";
import { type Point, perBoard, type Summary } from "../farm/experiment";
import * as told from "../farm/told_experiment";
import { figure } from "../format";
import { link, route, setParams } from "../route";

const NEEDS = [[t.RESERVATION]] as const;

/** In the address: everything that this page has seen, of whichever reservation. */
const ALL = "all";

/** Failures that are listed. */
const MOST_LISTED = 20;

export function ExperimentView() {
  const session = useSession();
  useNeeds(NEEDS);
  const version = session.experimentChanged.value;
  session.read("experiments", "reservations");
  const { params } = route.value;
  const { experiment, state } = session;
  const only = params.get("reservation") ?? "";
  const tellers = [...state.experiments.values()];
  const busy = busyReservations(state, session.user, session.statuses.value.value);
  const found = { told: tellers, seen: experiment.counts, busy, live: state.reservations };
  const shown = only === ALL ? "" : only || told.current(found);
  const whole = told.toldOf(tellers, shown);
  const numbers = whole?.numbers.map(({ name }) => name) ?? [];
  const metrics = [...new Set([...numbers, ...experiment.metrics])];
  const metric = params.get("metric") || metrics[0] || "";
  const highest = params.get("best") !== "lowest";
  const points = useMemo(
    () =>
      experiment.points
        .filter((p) => metric in p.values && (shown === "" || p.reservation === shown))
        .sort((a, b) => a.at - b.at),
    [experiment, metric, shown, version],
  );
  const summed = whole?.numbers.find(({ name }) => name === metric) ?? null;
  const reservations = new Set(tellers.map(({ reservation }) => reservation));
  for (const each of experiment.counts.keys()) reservations.add(each);
  if (shown !== "") reservations.add(shown);
  return (
    <div class="experiment">
      <ExperimentProgress reservation={shown} whole={whole} />
      {metrics.length > 0 && (
        <div class="tools">
          <label>
            Value{" "}
            <select
              value={metric}
              onChange={(event) => setParams({ metric: event.currentTarget.value })}
            >
              {metrics.map((name) => (
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
              value={shown === "" ? ALL : shown}
              onChange={(event) => setParams({ reservation: event.currentTarget.value })}
            >
              <option value={ALL}>all that was seen here</option>
              {[...reservations].map((id) => (
                <option key={id}>{id}</option>
              ))}
            </select>
          </label>
        </div>
      )}
      {points.length > 0 || summed !== null ? (
        <Values
          points={points}
          summed={summed}
          failed={whole?.failed ?? {}}
          metric={metric}
          highest={highest}
        />
      ) : (
        <p class="empty">Results show here as your boards measure, from when you signed in here.</p>
      )}
      <Failures reservation={shown} />
    </div>
  );
}

interface ValuesProps {
  points: readonly Point[];
  summed: told.ToldNumber | null;
  failed: Readonly<Record<string, number>>;
  metric: string;
  highest: boolean;
}

const OVER_TIME: readonly Series[] = [
  { label: "results", as: "points" },
  { label: "best so far", as: "line" },
  { label: "mean before", as: "line" },
];
const BARS: readonly Series[] = [{ label: "how often", as: "bars" }];

function Values({ points, summed, failed, metric, highest }: ValuesProps) {
  const session = useSession();
  const overTime = useMemo(
    () => told.overTime(summed, points, metric, highest),
    [summed, points, metric, highest],
  );
  const lines = useMemo<[number[], (number | null)[], number[], (number | null)[]]>(
    () => [overTime.at, overTime.values, overTime.best, overTime.means],
    [overTime],
  );
  const values = useMemo(() => points.map((p) => p.values[metric] ?? 0), [points, metric]);
  const bins = useMemo(() => told.bins(summed, values), [summed, values]);
  const bars = useMemo<[number[], (number | null)[]]>(
    () => [bins.edges, [...bins.counts, null]],
    [bins],
  );
  const best = told.best(summed, points, metric, highest);
  const boards =
    summed === null
      ? perBoard(points, session.experiment.failures, metric)
      : told.compared(summed, failed);
  return (
    <>
      {best !== null && (
        <p class="best">
          Best so far: <strong>{figure(best.value)}</strong> {metric}, {best.bitstream} on{" "}
          <a href={link("board", best.serial)}>{best.serial}</a>, <Age since={best.at} /> ago.
        </p>
      )}
      <div class="plots">
        <section aria-labelledby="time-title">
          <h2 id="time-title">Over time</h2>
          <Plot
            label={`${metric} of ${points.length} results over time, best ${figure(best?.value)}`}
            data={lines}
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
      <Comparison boards={boards} />
    </>
  );
}

function Comparison({ boards }: { boards: readonly Summary[] }) {
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

function Failures({ reservation }: { reservation: string }) {
  const session = useSession();
  const failures = session.experiment.failures.filter(
    (each) => reservation === "" || each.reservation === reservation,
  );
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
