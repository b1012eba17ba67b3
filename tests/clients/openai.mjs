/** The OpenAI SDK for Node, as its users have it: node openai.mjs BASE_URL [CHUNKS_BEFORE_LEAVING] */
import OpenAI from 'openai';

const [baseURL, leaveAfter = '0'] = process.argv.slice(2);
const say = (saw, more = {}) => console.log(JSON.stringify({ saw, at: performance.now(), ...more }));
let left = Number(leaveAfter);
try {
  const client = new OpenAI({ baseURL, apiKey: 'not-needed' });
  const messages = [{ role: 'user', content: 'hi' }];
  const stream = await client.chat.completions.create({ model: 'up-1', messages, stream: true });
  say('open');
  for await (const chunk of stream) {
    say('event', { name: 'chunk', data: JSON.stringify(chunk) });
    if (chunk.choices[0]?.delta.content && --left === 0) break; // leaving the loop closes the connection
  }
} catch (error) {
  say('failure', { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null, text: error.message });
}
say('end');
