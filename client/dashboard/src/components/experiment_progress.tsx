/** How far an experiment has come: by its program's own word, or by what this page has seen. */

import { useEffect } from "preact/hooks";
import type { QueueStatus, ToldExperiment } from "../bus/messages";
import { tick } from "../clock";
import { outcomeRate } from "../farm/experiment";
import type { Asked } from "../farm/queue_status";
import type { FarmState } from "../farm/state";
import { standing } from "../farm/told_experiment";
import { count, duration, figure, percent } from "../format";
import { useLive, useSession } from "./context";
import { Age, At } from "./times";

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

/** Reservations of mine on whose boards something waits or is measured. */
export function busyReservations(
  state: FarmState,
  user: string,
  statuses: ReadonlyMap<string, QueueStatus>,
): ReadonlySet<string> {
  const isBusy = (serial: string): boolean => waitingOn(statuses.get(serial)) > 0;
  return new Set(
    asked(state, user)
      .filter(({ serials }) => serials.some(isBusy))
      .map(({ reservation }) => reservation),
  );
}

function waitingOn(status: QueueStatus | undefined): number {
  return status === undefined ? 0 : status.queued + (status.measuring === null ? 0 : 1);
}

interface Props {
  /** Of which reservation; empty for all that was seen. */
  reservation: string;
  /** What its program tells; null while it has told nothing. */
  whole: ToldExperiment | null;
}

export function ExperimentProgress({ reservation, whole }: Props) {
  const session = useSession();
  const live = useLive();
  session.read("reservations");
  useEffect(() => {
    if (!live) return;
    return session.statuses.follow(() => asked(session.state, session.user));
  }, [session, live]);
  const { experiment } = session;
  const ours = (each: { reservation: string }): boolean =>
    reservation === "" || each.reservation === reservation;
  const statuses = session.statuses.value.value;
  const waiting = asked(session.state, session.user)
    .filter(ours)
    .flatMap(({ serials }) => serials)
    .reduce((sum, serial) => sum + waitingOn(statuses.get(serial)), 0);
  const times = [...experiment.points, ...experiment.failures]
    .filter(ours)
    .map(({ at }) => at)
    .sort(number);
  const rate = outcomeRate(times, Math.max(tick.value, times.at(-1) ?? 0));
  if (whole !== null) return <Told whole={whole} waiting={waiting} rate={rate} />;
  const { results, failures } = experiment.countsOf(reservation);
  const done = results + failures;
  const share = done + waiting === 0 ? 0 : done / (done + waiting);
  return (
    <section aria-label="Progress">
      <dl class="figures">
        <Figure name="results" value={figure(results)} />
        <Figure name="failures" value={figure(failures)} />
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
        {percent(share)} of what this page knows of: programs tell how many there will be after
        their first ten seconds.
        {experiment.missed > 0 &&
          ` ${count(experiment.missed, "event")} came while this page was not connected: your program has them.`}
      </p>
    </section>
  );
}

interface ToldProps {
  whole: ToldExperiment;
  waiting: number;
  rate: number | null;
}

/** How far the program has come, by its own word. */
function Told({ whole, waiting, rate }: ToldProps) {
  const { run } = whole;
  const { done, total, share, rate: found, left } = standing(whole, rate);
  const of = total === null ? "" : ` of ${figure(total)}`;
  return (
    <section aria-label="Progress">
      <dl class="figures">
        <Figure name="results" value={figure(whole.results)} />
        <Figure name="failures" value={figure(whole.failures)} />
        <Figure name="a second" value={figure(found)} />
        <Figure name="on the boards" value={figure(waiting)} />
        <Figure name="done in" value={left === null ? "–" : duration(left)} />
      </dl>
      {share !== null && <progress value={share} aria-label="Outcomes of this run" />}
      <p class="dim">
        Run {figure(whole.runs)} with reservation {whole.reservation}: {figure(done)}
        {of} done{share === null ? "" : `, ${percent(share)}`},{" "}
        {run.ended === null ? (
          <>
            begun <Age since={run.began} /> ago; told <Age since={whole.at} /> ago.
          </>
        ) : (
          <>
            ended <Age since={run.ended} /> ago. In all since <At at={whole.began} />.
          </>
        )}
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
