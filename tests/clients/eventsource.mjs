/** The npm EventSource: node eventsource.mjs URL [EVENT,EVENT …] */
import { EventSource } from 'eventsource';
import { watch } from './watch.mjs';

const [url, closeOn = ''] = process.argv.slice(2);
watch(EventSource, url, closeOn.split(','), (line) => console.log(JSON.stringify(line)));
