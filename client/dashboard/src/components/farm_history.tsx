/** Throughput and failures of the whole farm over the last hours, as control has counted them. */

import { useMemo } from "preact/hooks";
import { farmTime, tick } from "../clock";
import { HOURS, minutesSince, summary } from "../farm/throughput";
import { count, figure, percent } from "../format";
import { route, setParams } from "../route";
import { useSession } from "./context";
import { Plot, type Series } from "./plot";

const RESULTS: readonly Series[] = [{ label: "results a second", as: "minutes" }];
const FAILING: readonly Series[] = [{ label: "percent that fail", as: "minutes", colour: "--bad" }];

const SHOWN = 6;

const MINUTE = 60;

export function FarmHistory() {
  const session = useSession();
  session.read("throughput");
  const { throughput } = session.state;
  const asked = Number(route.value.params.get("hours"));
  const hours = HOURS.find((each) => each === asked) ?? SHOWN;
  // To the minute, so that it is drawn anew when there is something new.
  const now = Math.floor(farmTime(tick.value) / 1000 / MINUTE) * MINUTE;
  const since = now - hours * 3600;
  const minutes = useMemo(() => minutesSince(throughput, since), [throughput, since]);
  const results = useMemo<[number[], (number | null)[]]>(
    () => [minutes.at, minutes.results],
    [minutes],
  );
  const failing = useMemo<[number[], (number | null)[]]>(
    () => [minutes.at, minutes.failing],
    [minutes],
  );
  const range = useMemo<[number, number]>(() => [since, now], [since, now]);
  const rates = summary(minutes.results);
  const shares = summary(minutes.failing);
  const over = `over the last ${count(hours, "hour")}`;
  return (
    <section aria-labelledby="history-title" class="wide history">
      <div class="titled">
        <h2 id="history-title">The last hours</h2>
        <label>
          <span class="hidden">How many hours are shown</span>
          <select
            value={String(hours)}
            onChange={(event) => setParams({ hours: event.currentTarget.value })}
          >
            {HOURS.map((each) => (
              <option key={each} value={String(each)}>
                {count(each, "hour")}
              </option>
            ))}
          </select>
        </label>
      </div>
      {rates === null ? (
        <p class="empty">
          Nothing is counted yet: control tells what has ended once a minute, and keeps a day.
        </p>
      ) : (
        <div class="plots">
          <figure>
            <figcaption>
              Results a second{" "}
              <span class="dim">
                {figure(rounded(rates.mean))} on average, {figure(rounded(rates.highest))} at most
              </span>
            </figcaption>
            <Plot
              label={`Results a second ${over}: ${figure(rounded(rates.mean))} on average, ${figure(rounded(rates.highest))} at most`}
              data={results}
              series={RESULTS}
              time={true}
              range={range}
              height={180}
            />
          </figure>
          <figure>
            <figcaption>
              Evaluations that fail, %{" "}
              <span class="dim">
                {shares === null
                  ? "none ended"
                  : `${percent(shares.highest / 100)} at most in a minute`}
              </span>
            </figcaption>
            <Plot
              label={`Percent of evaluations that failed ${over}: ${shares === null ? "none ended" : `${percent(shares.highest / 100)} at most in a minute`}`}
              data={failing}
              series={FAILING}
              time={true}
              range={range}
              height={180}
            />
          </figure>
        </div>
      )}
    </section>
  );
}

/** Three figures: rates are of minutes, and more would say nothing. */
function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
