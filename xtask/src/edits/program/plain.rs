//! The plain data of the state as text, and back. What is edited is not used here; field names are followed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use crate::canary::Canary;
use crate::shop::{Account, Amount, Item, Kind, LOG, LogEntry, SOLD, Shop, VISITS};
use crate::{jobs, threads};

pub fn dump_shop(shop: &Shop) -> String {
    let items: Vec<String> = shop.shelf_items.iter().map(item).collect();
    let accounts = shop.accounts.values().map(|account| {
        let last = account.last_item.as_ref().map(item).unwrap_or_default();
        let seed = account.account_canary.seed();
        format!("{}^{}^{seed}^{last}", account.owner_name, account.balance_cents)
    });
    let accounts: Vec<String> = accounts.collect();
    format!("{}${}", items.join("`"), accounts.join("`"))
}

pub fn load_shop(text: &str) -> Shop {
    let (items, accounts) = text.split_once('$').unwrap_or_default();
    let mut shop = Shop::default();
    shop.shelf_items = items.split('`').filter_map(parse_item).collect();
    for line in accounts.split('`') {
        let fields: Vec<&str> = line.splitn(4, '^').collect();
        let [owner, balance, seed, last] = fields.as_slice() else { continue };
        let account = Account {
            owner_name: (*owner).to_owned(),
            balance_cents: balance.parse().unwrap_or(0),
            last_item: parse_item(last),
            account_canary: Canary::new(seed.parse().unwrap_or(0)),
        };
        shop.accounts.insert((*owner).to_owned(), Box::new(account));
    }
    shop
}

fn item(item: &Item) -> String {
    let kind = match &item.item_kind {
        Kind::Measured { width_mm, height_mm } => format!("m,{width_mm},{height_mm}"),
        Kind::Bundle(parts) => format!("b,{}", parts.iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
        _ => "p".to_owned(),
    };
    let (seed, label, price, stock) = (item.canary.seed(), &item.label_text, item.price_cents, item.stock_count);
    format!("{seed}~{label}~{price}~{stock}~{kind}")
}

fn parse_item(text: &str) -> Option<Item> {
    let fields: Vec<&str> = text.split('~').collect();
    let [seed, label, price, stock, kind] = fields.as_slice() else { return None };
    let mut words = kind.split(',');
    let item_kind = match words.next() {
        Some("m") => Kind::Measured { width_mm: words.next()?.parse().ok()?, height_mm: words.next()?.parse().ok()? },
        Some("b") => Kind::Bundle(words.filter_map(|word| word.parse().ok()).collect()),
        _ => Kind::Plain,
    };
    Some(Item {
        canary: Canary::new(seed.parse().ok()?),
        label_text: (*label).to_owned(),
        price_cents: price.parse().ok()?,
        stock_count: stock.parse::<u64>().ok()? as Amount,
        item_kind,
    })
}

pub fn dump_statics() -> String {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let log: Vec<String> = log.iter().map(|entry| format!("{}:{}", entry.entry_number, entry.entry_text)).collect();
    let numbers =
        [VISITS.load(Relaxed), SOLD.load(Relaxed), jobs::RUNS.load(Relaxed), threads::LOCAL.with(|count| count.get())];
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("{}${}", numbers.join(","), log.join("`"))
}

pub fn load_statics(text: &str) {
    let (numbers, log) = text.split_once('$').unwrap_or_default();
    let numbers: Vec<u64> = numbers.split(',').filter_map(|number| number.parse().ok()).collect();
    let [visits, sold, runs, local] = numbers.as_slice() else { return };
    VISITS.store(*visits, Relaxed);
    SOLD.store(*sold, Relaxed);
    jobs::RUNS.store(*runs, Relaxed);
    threads::LOCAL.with(|count| count.set(*local));
    let entries = log.split('`').filter_map(|entry| entry.split_once(':'));
    let entries = entries.filter_map(|(number, text)| {
        Some(LogEntry { entry_number: number.parse().ok()?, entry_text: text.to_owned() })
    });
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = entries.collect();
}
