<?php
// Laravel's database layer as an application uses it, with `schema` set: each connection begins with its `set names`,
// `set time zone` and `set search_path`. Arguments: port, user, password, database, schema, the schema of another tenant.

require '/usr/share/php/Illuminate/Database/autoload.php';

use Illuminate\Database\Capsule\Manager as Capsule;
use Illuminate\Database\Eloquent\Model;
use Illuminate\Database\QueryException;
use Illuminate\Database\Schema\Blueprint;

[, $port, $user, $password, $database, $schema, $other] = $argv;

class Note extends Model
{
    protected $guarded = [];
    protected $casts = ['tags' => 'array', 'at' => 'datetime'];
}

$capsule = new Capsule();
$base = ['driver' => 'pgsql', 'host' => '127.0.0.1', 'port' => $port, 'database' => $database, 'username' => $user,
    'password' => $password, 'charset' => 'utf8', 'timezone' => 'UTC', 'application_name' => 'laravel'];
foreach (['default' => $schema, 'second' => $schema, 'other' => $other] as $name => $path) {
    $capsule->addConnection($base + ['schema' => $path], $name);
}
$capsule->setAsGlobal();
$capsule->bootEloquent();
$checks = 0;
$check = function (bool $holds, string $what) use (&$checks) {
    $holds or exit("not so: $what\n");
    $checks++;
};

$builder = $capsule->schema();
$builder->create('notes', function (Blueprint $table) {
    $table->id();
    $table->string('body')->index();
    $table->json('tags')->nullable();
    $table->timestampTz('at')->nullable();
    $table->timestamps();
    $table->unique('body');
});
$check($builder->hasTable('notes') && $builder->hasColumn('notes', 'tags'), 'the table is in the schema');
foreach (range(1, 50) as $number) {
    Note::create(['body' => "note $number", 'tags' => ['n' => $number], 'at' => '2024-02-03 04:05:06+00']);
}
$check(Note::count() === 50 && Note::where('tags->n', 7)->first()->body === 'note 7', 'rows are found');
$check(Note::find(7)->at->toIso8601String() === '2024-02-03T04:05:06+00:00', 'times are read in the zone that was set');
$seen = 0;
Note::orderBy('id')->chunk(7, function ($notes) use (&$seen) {
    $seen += count($notes);
});
$check($seen === 50, 'chunks');
$connection = Capsule::connection();
$connection->transaction(function () use ($connection) {
    Note::lockForUpdate()->find(1)->update(['body' => 'first']);
    try {
        $connection->transaction(function () {
            Note::find(2)->delete();
            throw new RuntimeException('inner');
        });
    } catch (RuntimeException $e) {
    }
});
$check(Note::find(1)->body === 'first' && Note::find(2) !== null, 'a savepoint is rolled back');
Capsule::table('notes')->upsert([['body' => 'first', 'tags' => '{"n": 1000}']], ['body'], ['tags']);
$check(Note::find(1)->tags === ['n' => 1000], 'upsert');
try {
    Note::create(['body' => 'first']);
    $check(false, 'unique');
} catch (QueryException $e) {
    $check($e->getCode() === '23505', 'PostgreSQL\'s own error');
}
foreach (range(1, 20) as $round) {
    $check(Capsule::connection('second')->table('notes')->count() === 50, 'another connection');
    $capsule->getDatabaseManager()->purge('second');
}
$row = Capsule::selectOne('select current_schema() s, current_setting(\'timezone\') z, current_setting(\'application_name\') a');
$check([$row->s, $row->z] === [$schema, 'UTC'], 'what it has set');
try {
    Capsule::connection('other')->select('select 1');
    $check(false, 'another tenant\'s schema is refused');
} catch (QueryException | PDOException $e) {
    $check($e->getCode() === '42501', 'refused by the guard: '.$e->getMessage());
}
$builder->drop('notes');
echo "$checks checks passed\n";
