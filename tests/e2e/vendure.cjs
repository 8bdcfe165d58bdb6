// A shop on Vendure, with SQLite, on this machine: `node vendure.cjs`, in the folder its packages lie in.
// PORT and DATABASE say where; a database that is not there yet is filled: two teas, one way to ship, one to pay.
// PLUGIN is the file of a plugin of Vendure's, in TypeScript, that takes part.
const { createRequire, Module } = require('node:module');
const { existsSync, readFileSync, writeFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const here = createRequire(join(process.cwd(), 'package.json'));
const { bootstrap, DefaultLogger, dummyPaymentHandler, LanguageCode, LogLevel } = here('@vendure/core');
const { populate } = here('@vendure/core/cli');

const { PORT, DATABASE, PLUGIN } = process.env;

function plugins() {
  if (!PLUGIN) return [];
  const { transpileModule, ModuleKind, ScriptTarget } = here('typescript');
  const compilerOptions = {
    module: ModuleKind.CommonJS, target: ScriptTarget.ES2022, experimentalDecorators: true, emitDecoratorMetadata: true,
  };
  const made = new Module(PLUGIN);
  made.paths = [join(process.cwd(), 'node_modules')];
  made._compile(transpileModule(readFileSync(PLUGIN, 'utf8'), { compilerOptions }).outputText, PLUGIN);
  return Object.values(made.exports);
}

const config = {
  apiOptions: { hostname: '127.0.0.1', port: Number(PORT), adminApiPath: 'admin-api', shopApiPath: 'shop-api' },
  authOptions: {
    tokenMethod: ['bearer', 'cookie'],
    requireVerification: false,
    superadminCredentials: { identifier: 'superadmin', password: 'superadmin' },
    cookieOptions: { secret: 'of-this-test' },
  },
  dbConnectionOptions: { type: 'better-sqlite3', synchronize: !existsSync(DATABASE), database: DATABASE },
  paymentOptions: { paymentMethodHandlers: [dummyPaymentHandler] },
  importExportOptions: { importAssetsDir: dirname(DATABASE) },
  logger: new DefaultLogger({ level: LogLevel.Error }),
  plugins: plugins(),
};
const settings = {
  defaultLanguage: LanguageCode.en,
  defaultZone: 'Everywhere',
  countries: [{ name: 'United States of America', code: 'US', zone: 'Everywhere' }],
  taxRates: [{ name: 'Standard Tax', percentage: 10 }],
  shippingMethods: [{ name: 'Post', price: 500 }],
  paymentMethods: [
    { name: 'Card', handler: { code: 'dummy-payment-handler', arguments: [{ name: 'automaticSettle', value: 'true' }] } },
  ],
  collections: [],
};
const columns = 'name,slug,description,assets,facets,optionGroups,optionValues,sku,price,taxCategory,stockOnHand,'
  + 'trackInventory,variantAssets,variantFacets';
const products = [columns, 'Sencha,sencha,,,,,,TEA-1,12.50,standard,1000,false,,', 'Oolong,oolong,,,,,,TEA-2,18.00,standard,1000,false,,'];

async function open() {
  if (existsSync(DATABASE)) return bootstrap(config);
  const file = join(dirname(DATABASE), 'products.csv');
  writeFileSync(file, products.join('\n'));
  return populate(() => bootstrap(config), settings, file);
}

open().then(
  () => console.log('ready'),
  error => { console.error(error); process.exit(1); },
);
