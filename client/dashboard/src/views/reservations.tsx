/** Reservations with the time that they have left, and the queue with what each waits for. */

import type { Reservation } from "../bus/messages";
import * as t from "../bus/topics";
import { useLive, useMay, useNeeds, useSession } from "../components/context";
import { ask } from "../components/dialog";
import { StateMark } from "../components/marks";
import { Age, Remaining } from "../components/times";
import { Actions } from "../farm/actions";
import { count } from "../format";
import { link, route, setParams } from "../route";

const NEEDS = [[t.RESERVATION]] as const;

const MINUTE = 60;
const DURATIONS = [
  { label: "15 min", seconds: 15 * MINUTE },
  { label: "1 hour", seconds: 60 * MINUTE },
  { label: "4 hours", seconds: 240 * MINUTE },
  { label: "1 day", seconds: 1440 * MINUTE },
];

export function ReservationsView() {
  useNeeds(NEEDS);
  const session = useSession();
  session.read("reservations");
  const mine = route.value.params.get("mine") === "yes";
  const all = [...session.state.reservations.values()].filter(
    (each) => !mine || each.user === session.user,
  );
  const queue = all
    .filter((each) => each.state === "queued")
    .sort((a, b) => (a.queue?.position ?? 0) - (b.queue?.position ?? 0));
  const held = all
    .filter((each) => each.state !== "queued")
    .sort((a, b) => a.until - b.until || (a.id < b.id ? -1 : 1));
  const offered = all.filter((each) => each.offer?.to === session.user);
  return (
    <div class="reservations">
      {!session.wall && (
        <div class="tools">
          <label class="check">
            <input
              type="checkbox"
              checked={mine}
              onChange={(event) => setParams({ mine: event.currentTarget.checked ? "yes" : "" })}
            />
            only mine
          </label>
        </div>
      )}
      {offered.map((each) => (
        <Offer key={each.id} reservation={each} />
      ))}
      <section aria-labelledby="held-title">
        <h2 id="held-title">
          Reservations <span class="dim">{held.length}</span>
        </h2>
        {held.length === 0 && <p class="empty">None.</p>}
        <ul class="cards">
          {held.map((each) => (
            <Held key={each.id} reservation={each} />
          ))}
        </ul>
      </section>
      <section aria-labelledby="queue-title">
        <h2 id="queue-title">
          Queue <span class="dim">{queue.length}</span>
        </h2>
        {queue.length === 0 && <p class="empty">Nobody waits.</p>}
        <ol class="cards">
          {queue.map((each) => (
            <Queued key={each.id} reservation={each} />
          ))}
        </ol>
      </section>
    </div>
  );
}

function Held({ reservation }: { reservation: Reservation }) {
  const { id, user, kind, state, devices, created, until, client, offer } = reservation;
  const failed = devices.filter((each) => each.state === "failed").length;
  return (
    <li class="card">
      <div class="card-head">
        <StateMark state={state} />
        <strong>{user}</strong>
        <span>{kind}</span>
        <span class="left">
          <Remaining until={until} /> <span class="dim">left</span>
        </span>
      </div>
      <Serials devices={devices} />
      <div class="card-foot">
        <span class="dim">
          <code>{id}</code>, {count(devices.length, "board")}
          {failed > 0 && `, ${failed} failed`}
          {client === null && ", detached"}
          {offer !== null && `, offered to ${offer.to}`},{" "}
          <span class="began">
            began <Age since={created} /> ago
          </span>
        </span>
        <ReservationActions reservation={reservation} />
      </div>
    </li>
  );
}

/** Boards that are named; the rest is one step away. */
const MOST_SERIALS = 12;

function Serials({ devices }: { devices: Reservation["devices"] }) {
  return (
    <ul class="serials">
      {devices.slice(0, MOST_SERIALS).map(({ serial, state, reason }) => (
        <li key={serial} title={reason || undefined}>
          <a href={link("board", serial)}>
            <StateMark state={state} label={serial} />
            <span class="hidden"> {state}</span>
          </a>
        </li>
      ))}
      {devices.length > MOST_SERIALS && (
        <li class="dim">and {devices.length - MOST_SERIALS} more</li>
      )}
    </ul>
  );
}

function Queued({ reservation }: { reservation: Reservation }) {
  const { id, user, kind, created, until, queue, priority } = reservation;
  return (
    <li class="card">
      <div class="card-head">
        <span class="place">{queue?.position ?? "–"}</span>
        <strong>{user}</strong>
        <span>{kind}</span>
        {queue?.estimate != null && (
          <span class="left">
            <span class="dim">about</span> <Remaining until={queue.estimate} />
          </span>
        )}
      </div>
      <p>{queue?.reason}</p>
      <div class="card-foot">
        <span class="dim">
          <code>{id}</code>, waits for <Age since={created} />, gives up in{" "}
          <Remaining until={until} />
          {priority !== 0 && `, priority ${priority}`}
        </span>
        <ReservationActions reservation={reservation} />
      </div>
    </li>
  );
}

function ReservationActions({ reservation }: { reservation: Reservation }) {
  const session = useSession();
  const live = useLive();
  const owner = useMay("user", reservation.user);
  const admin = useMay("admin");
  const actions = new Actions(session.requests);
  const { id, user, state, devices } = reservation;
  const queued = state === "queued";
  if (state === "ending" || state === "ended" || !(owner || admin)) return null;
  const boards = count(devices.length, "board");
  return (
    <span class="actions">
      {owner && !queued && (
        <button
          type="button"
          disabled={!live}
          onClick={() =>
            ask({
              title: "Extend the reservation?",
              text: `${boards} of ${reservation.kind}, ${id}.`,
              confirm: "Extend",
              durations: DURATIONS,
              run: ({ seconds }) => actions.extend(id, seconds),
            })
          }
        >
          Extend<span class="hidden"> {id}</span>
        </button>
      )}
      {owner && (
        <button
          type="button"
          disabled={!live}
          onClick={() =>
            ask({
              title: queued ? "Leave the queue?" : `Release ${boards}?`,
              text: queued
                ? "Your place in the queue is gone then."
                : "What they measure for you ends, and others can have them.",
              confirm: queued ? "Leave the queue" : "Release",
              dangerous: true,
              run: () => actions.release(id),
            })
          }
        >
          {queued ? "Cancel" : "Release"}
          <span class="hidden"> {id}</span>
        </button>
      )}
      {admin && !owner && (
        <button
          type="button"
          disabled={!live}
          onClick={() =>
            ask({
              title: `End the reservation of ${user}?`,
              text: `${boards}; what they measure ends with it. ${user} is told the reason.`,
              confirm: "End it",
              dangerous: true,
              reason: true,
              run: ({ reason }) => actions.endAnybodys(id, reason),
            })
          }
        >
          End<span class="hidden"> {id}</span>
        </button>
      )}
    </span>
  );
}

function Offer({ reservation }: { reservation: Reservation }) {
  const session = useSession();
  const live = useLive();
  const actions = new Actions(session.requests);
  const { id, user, kind, devices } = reservation;
  const answer = (take: boolean): void =>
    ask({
      title: take ? `Take the reservation of ${user}?` : `Decline what ${user} offers?`,
      text: `${count(devices.length, "board")} of ${kind}, ${id}.`,
      confirm: take ? "Take it" : "Decline",
      run: () => (take ? actions.accept(id) : actions.decline(id)),
    });
  return (
    <p class="card offer">
      <span>
        <strong>{user}</strong> offers you {count(devices.length, "board")} of {kind}.
      </span>
      <span class="actions">
        <button type="button" disabled={!live} onClick={() => answer(true)}>
          Take
        </button>
        <button type="button" disabled={!live} onClick={() => answer(false)}>
          Decline
        </button>
      </span>
    </p>
  );
}
