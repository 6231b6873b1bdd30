// Package postgres implements seckill.Store on PostgreSQL 15 or later.
package postgres
