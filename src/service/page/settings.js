// The settings in effect.
import { fill, h } from './dom.js';
import { ask } from './tools.js';

export function settings(root) {
  const body = h('tbody'), only = h('input', { type: 'checkbox', id: 'only', checked: true, onchange: () => draw() });
  root.append(h('section', {}, h('h1', {}, 'Settings in effect'), h('div', { class: 'tools' }, only, h('label', { for: 'only' }, 'only those that somebody set')), h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['key', 'value', 'from'].map(text => h('th', {}, text)))), body)));
  let all = [];
  const draw = () => {
    const shown = all.filter(setting => !only.checked || setting.origin !== 'default');
    fill(body, shown, () => shown.length ? shown.map(setting => h('tr', {}, h('td', { class: 'code' }, setting.key), h('td', { class: 'code' }, setting.value), h('td', { class: 'dim' }, setting.origin))) : h('tr', {}, h('td', {}, 'Everything is as it comes.')));
  };
  return async () => { if (!all.length) all = (await ask('settings')).settings; draw(); };
}
